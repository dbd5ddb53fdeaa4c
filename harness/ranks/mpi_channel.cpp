// The channel over MPI; all that knows MPI. Built as a library of its own (launch.cpp says why).
//
// MPI's own waiting keeps a core busy. So nothing here waits inside MPI: what is under way is asked for, with naps in
// between.

#include <mpi.h>

#include <chrono>
#include <climits>
#include <memory>
#include <stdexcept>
#include <thread>

#include "harness/ranks/channel.hpp"

namespace draft {
namespace {

constexpr int kTag = 1;
constexpr auto kNap = std::chrono::microseconds(200);

class MpiChannel : public Channel {
 public:
  MpiChannel() {
    int provided = MPI_THREAD_SINGLE;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
    if (provided < MPI_THREAD_SERIALIZED) throw std::runtime_error("MPI: wanted MPI_THREAD_SERIALIZED, found less");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &count_);
  }
  ~MpiChannel() override { MPI_Finalize(); }

  [[nodiscard]] int rank() const override { return rank_; }
  [[nodiscard]] int count() const override { return count_; }

  void send(int to, const std::string& bytes) override {
    if (bytes.size() > INT_MAX) throw std::runtime_error("MPI: a message of more than 2 GiB");
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, to, kTag, MPI_COMM_WORLD, &request);
    wait_for(request);
  }

  std::optional<Message> receive() override {
    int arrived = 0, bytes = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    MPI_Improbe(MPI_ANY_SOURCE, kTag, MPI_COMM_WORLD, &arrived, &message, &status);
    if (arrived == 0) return std::nullopt;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    Message found{status.MPI_SOURCE, std::string(static_cast<std::size_t>(bytes), '\0')};
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Imrecv(found.bytes.data(), bytes, MPI_BYTE, &message, &request);
    wait_for(request);
    return found;
  }

 private:
  static void wait_for(MPI_Request& request) {
    for (int done = 0;;) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      if (done != 0) return;
      std::this_thread::sleep_for(kNap);
    }
  }

  int rank_ = 0, count_ = 1;
};

}  // namespace
}  // namespace draft

/// Starts MPI, which ends with the channel.
extern "C" draft::Channel* draft_make_channel() { return std::make_unique<draft::MpiChannel>().release(); }
