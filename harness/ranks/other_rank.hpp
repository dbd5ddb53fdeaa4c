#pragma once
// Any rank but the first: asks that one for everything.

#include <condition_variable>
#include <mutex>
#include <thread>

#include "harness/ranks/protocol.hpp"
#include "harness/ranks/ranks.hpp"

namespace draft {

class OtherRank : public Ranks {
 public:
  explicit OtherRank(std::unique_ptr<Channel> channel);
  ~OtherRank() override;

  std::pair<int, std::string> leave(int status, const std::string& error) override;

 protected:
  std::string exchange(const std::string& text, const Answer& answer) override;
  void open(Work) override { ++phase_; }
  std::optional<std::size_t> take() override;
  void deliver(std::size_t unit, std::vector<Json> found, bool done) override;
  void advance(Index steps) override;
  void finish() override {}
  void abandon() noexcept override {}

 private:
  /// The first rank's answer; the mutex is locked.
  Json ask(const std::string& message);
  void send_steps();
  void watch();

  std::mutex mutex_;  // guards the channel
  std::unique_ptr<Channel> channel_;
  std::mutex steps_mutex_;  // guards steps_ and ending_
  std::condition_variable ending_changed_;
  Index steps_ = 0;
  bool ending_ = false;
  int round_ = 0, phase_ = 0;
  std::thread watch_;
};

}  // namespace draft
