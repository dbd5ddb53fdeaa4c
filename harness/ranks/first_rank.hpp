#pragma once
// The first of several ranks: hands out units, has what was found written, ends the run.

#include <condition_variable>
#include <mutex>
#include <thread>

#include "harness/ranks/hand_out.hpp"
#include "harness/ranks/ranks.hpp"

namespace draft {

/// One thread of its own serves the others, and it alone uses the channel: MPI need not allow calls from several at
/// once, and no rank waits until this one has finished a head. (A counter in shared memory of MPI's would hand out
/// units without a thread, but many networks serve it only while its owner calls MPI, and records have to be received
/// anyway.)
class FirstRank : public Ranks {
 public:
  explicit FirstRank(std::unique_ptr<Channel> channel);
  /// After leave().
  ~FirstRank() override;

  std::pair<int, std::string> leave(int status, const std::string& error) override;

 protected:
  std::string exchange(const std::string& text, const Answer& answer) override;
  void open(Work work) override;
  std::optional<std::size_t> take() override;
  void deliver(std::size_t unit, std::vector<Json> found, bool done) override;
  void advance(Index steps) override;
  void finish() override;
  void abandon() noexcept override;

 private:
  struct Asked {
    int from;
    Json what;
  };

  void serve();
  void hear(int from, Json said);
  /// Whether it could be answered by now.
  bool answer(const Asked& asked);
  void write(std::size_t unit, const std::vector<Json>& found);
  void fail(const std::string& why);
  void throw_failure();
  /// Waits until the others hold nothing, and forgets the work.
  void close(std::unique_lock<std::mutex>& lock);

  std::unique_ptr<Channel> channel_;
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<Asked> asked_;          // what waits for an answer
  std::vector<std::string> answers_;  // of exchanges, by round
  std::vector<bool> left_;            // [rank]
  std::optional<HandOut> units_;      // of the open work
  Work work_;
  int phase_ = 0;        // how many works were opened
  std::string failure_;  // of another rank, or of writing what one found
  bool told_ = false;    // the failure was thrown
  bool unwritable_ = false, over_ = false;
  int status_ = 0;
  std::thread service_;
};

}  // namespace draft
