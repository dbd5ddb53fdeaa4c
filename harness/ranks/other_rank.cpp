#include "harness/ranks/other_rank.hpp"

#include <chrono>

#include "harness/ranks/launcher_watch.hpp"

namespace draft {
namespace {

constexpr auto kNap = std::chrono::microseconds(500);
constexpr auto kReportInterval = std::chrono::milliseconds(100);  // of steps, to the first rank's progress line

}  // namespace

OtherRank::OtherRank(std::unique_ptr<Channel> channel)
    : Ranks(channel->rank(), channel->count()), channel_(std::move(channel)), watch_([this] { watch(); }) {}

OtherRank::~OtherRank() {
  {
    const std::lock_guard lock(steps_mutex_);
    ending_ = true;
  }
  ending_changed_.notify_all();
  watch_.join();
}

/// Tells the first rank how far this one is, and ends it with its launcher.
void OtherRank::watch() {
  const LauncherWatch launcher;
  for (std::unique_lock lock(steps_mutex_); !ending_; ending_changed_.wait_for(lock, kReportInterval)) {
    lock.unlock();
    launcher.end_without_it();
    if (const std::unique_lock channel(mutex_, std::try_to_lock); channel.owns_lock()) send_steps();
    lock.lock();
  }
}

void OtherRank::send_steps() {
  if (channel_ == nullptr) return;  // it has left
  Index steps = 0;
  {
    const std::lock_guard lock(steps_mutex_);
    std::swap(steps, steps_);
  }
  if (steps > 0) channel_->send(0, protocol::message(protocol::advances, steps));
}

Json OtherRank::ask(const std::string& message) {
  channel_->send(0, message);
  for (;;) {
    if (const auto found = channel_->receive()) return protocol::parse(found->bytes);
    std::this_thread::sleep_for(kNap);
  }
}

std::string OtherRank::exchange(const std::string& text, const Answer&) {
  const std::lock_guard lock(mutex_);
  const Json found = ask(protocol::message(protocol::meets, round_++, text));
  if (found[0] == protocol::stops) throw RunEnded();
  return found[1].get<std::string>();
}

std::optional<std::size_t> OtherRank::take() {
  const std::lock_guard lock(mutex_);
  const Json found = ask(protocol::message(protocol::takes, phase_));
  if (found[1].is_null()) return std::nullopt;
  return found[1].get<std::size_t>();
}

void OtherRank::deliver(std::size_t unit, std::vector<Json> found, bool done) {
  const std::lock_guard lock(mutex_);
  send_steps();
  channel_->send(0, protocol::message(protocol::delivers, unit, found, done));
}

void OtherRank::advance(Index steps) {
  const std::lock_guard lock(steps_mutex_);
  steps_ += steps;
}

std::pair<int, std::string> OtherRank::leave(int /*status*/, const std::string& error) {
  const std::lock_guard lock(mutex_);
  const Json found = ask(protocol::message(protocol::leaves, error));
  channel_.reset();
  return {found[1].get<int>(), ""};
}

}  // namespace draft
