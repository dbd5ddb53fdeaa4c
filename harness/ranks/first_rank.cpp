#include "harness/ranks/first_rank.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "harness/options.hpp"
#include "harness/ranks/launcher_watch.hpp"
#include "harness/ranks/protocol.hpp"

namespace draft {
namespace {

constexpr auto kNap = std::chrono::milliseconds(1);

}  // namespace

FirstRank::FirstRank(std::unique_ptr<Channel> channel)
    : Ranks(channel->rank(), channel->count()),
      channel_(std::move(channel)),
      left_(static_cast<std::size_t>(count()), false) {
  left_[0] = true;
  service_ = std::thread([this] { serve(); });
}

FirstRank::~FirstRank() {
  if (service_.joinable()) FirstRank::leave(kExitBadInput, "");
}

void FirstRank::serve() {
  LauncherWatch launcher;
  for (bool busy = true;; busy = false) {
    {
      const std::lock_guard lock(mutex_);
      while (auto message = channel_->receive()) {
        busy = true;
        hear(message->from, protocol::parse(message->bytes));
      }
      std::erase_if(asked_, [&](const Asked& asked) { return answer(asked); });
      launcher.end_without_it();  // inside the lock: no record is being written
      if (over_ && std::ranges::find(left_, false) == left_.end()) break;
    }
    if (!busy) std::this_thread::sleep_for(kNap);
  }
  if (!failure_.empty()) status_ = kExitBadInput;
  for (int rank = 1; rank < count(); ++rank) channel_->send(rank, protocol::message(protocol::ends, status_));
}

void FirstRank::hear(int from, Json said) {
  switch (said[0].get<int>()) {
    case protocol::delivers: {
      const std::vector<Json> found(said[2].begin(), said[2].end());
      try {
        write(said[1].get<std::size_t>(), found);
      } catch (const std::exception& error) {
        unwritable_ = true;
        fail(error.what());
      }
      if (said[3].get<bool>()) units_->delivered(from);
      break;
    }
    case protocol::advances:
      if (work_.progress) work_.progress(said[1].get<Index>());
      break;
    case protocol::leaves:
      left_[static_cast<std::size_t>(from)] = true;
      if (units_) units_->gone(from);
      if (const auto error = said[1].get<std::string>(); !error.empty()) {
        fail(fmt::format("rank {} of {}: {}", from, count(), error));
      }
      break;
    default: asked_.push_back({from, std::move(said)});
  }
  changed_.notify_all();
}

bool FirstRank::answer(const Asked& asked) {
  const bool ending = over_ || !failure_.empty();
  if (asked.what[0] == protocol::meets) {
    const auto round = asked.what[1].get<std::size_t>();
    if (round < answers_.size()) {
      channel_->send(asked.from, protocol::message(protocol::answers, answers_[round]));
    } else if (ending) {
      channel_->send(asked.from, protocol::message(protocol::stops));
    } else {
      return false;
    }
    return true;
  }
  // A rank that asks for units when the run is ending gets none, and delivers what it still has.
  if (asked.what[1].get<int>() > phase_ && !ending) return false;
  std::optional<std::size_t> unit;
  if (units_ && !ending) unit = units_->take(asked.from);
  channel_->send(asked.from, protocol::message(protocol::gives, unit ? Json(*unit) : Json(nullptr)));
  return true;
}

void FirstRank::fail(const std::string& why) {
  if (failure_.empty()) failure_ = why;
  if (units_) units_->stop();
  changed_.notify_all();
}

void FirstRank::throw_failure() {
  if (failure_.empty()) return;
  told_ = true;
  throw UsageError(failure_);
}

std::string FirstRank::exchange(const std::string& text, const Answer& answer) {
  std::unique_lock lock(mutex_);
  const std::size_t round = answers_.size();
  std::vector<std::string> texts;
  changed_.wait(lock, [&] {
    texts.assign(static_cast<std::size_t>(count()), text);
    int met = 1;
    for (const Asked& asked : asked_) {
      if (asked.what[0] != protocol::meets || asked.what[1] != round) continue;
      texts[static_cast<std::size_t>(asked.from)] = asked.what[2].get<std::string>();
      ++met;
    }
    return met == count() || !failure_.empty();
  });
  throw_failure();
  answers_.push_back(answer(texts));
  return answers_.back();
}

void FirstRank::open(Work work) {
  const std::lock_guard lock(mutex_);
  work_ = std::move(work);
  units_.emplace(work_.costs, count());
  ++phase_;
}

std::optional<std::size_t> FirstRank::take() {
  const std::lock_guard lock(mutex_);
  return units_->take(rank());
}

void FirstRank::write(std::size_t unit, const std::vector<Json>& found) {
  if (!unwritable_) work_.write(unit, found);
}

void FirstRank::deliver(std::size_t unit, std::vector<Json> found, bool done) {
  const std::lock_guard lock(mutex_);
  write(unit, found);
  if (done) units_->delivered(rank());
  changed_.notify_all();
}

void FirstRank::advance(Index steps) { work_.progress(steps); }

void FirstRank::close(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [&] { return (units_->finished() || !failure_.empty() || over_) && !units_->others_hold(); });
  units_.reset();
  work_ = {};
}

void FirstRank::finish() {
  std::unique_lock lock(mutex_);
  close(lock);
  throw_failure();
}

void FirstRank::abandon() noexcept {
  std::unique_lock lock(mutex_);
  over_ = true;
  units_->stop();
  close(lock);
}

std::pair<int, std::string> FirstRank::leave(int status, const std::string& error) {
  {
    const std::lock_guard lock(mutex_);
    status_ = status;
    over_ = true;
  }
  service_.join();
  channel_.reset();
  return {status_, error.empty() && !told_ ? failure_ : ""};
}

}  // namespace draft
