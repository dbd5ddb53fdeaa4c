#include "harness/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>

namespace draft {
namespace {

constexpr double kSilence = 2.0;           // seconds
constexpr double kTerminalInterval = 0.2;  // seconds
constexpr double kPlainInterval = 10.0;    // seconds
constexpr double kLongest = 359'999.0;     // 99:59:59: a longer estimate is not shown

}  // namespace

ProgressSink ProgressSink::standard_error() {
  return {&std::cerr, isatty(STDERR_FILENO) == 1,
          [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }};
}

ProgressLine::ProgressLine(std::string label, Index total, bool quiet, ProgressSink sink)
    : label_(std::move(label)), total_(total), sink_(std::move(sink)) {
  if (quiet) sink_.stream = nullptr;
  if (sink_.stream == nullptr) return;
  start_ = sink_.clock();
  next_ = start_ + (sink_.terminal ? kSilence : kPlainInterval);
}

ProgressLine::~ProgressLine() {
  try {
    finish();
  } catch (...) {  // NOLINT(bugprone-empty-catch): a progress line that cannot be written is no failure of the run
  }
}

void ProgressLine::advance(Index steps) {
  const std::lock_guard lock(mutex_);
  done_ += steps;
  if (sink_.stream == nullptr) return;
  const double now = sink_.clock();
  if (now >= next_) show(now);
}

void ProgressLine::show(double now) {
  const double share = total_ > 0 ? std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_)) : 1.0;
  std::string line = fmt::format("{}: {:.0f}%", label_, std::floor(100.0 * share));
  if (share > 0.0) line += fmt::format(", {} left", clock_text((now - start_) * (1.0 - share) / share));
  if (sink_.terminal) {
    const std::size_t length = line.size();
    line.resize(std::max(length, shown_), ' ');  // spaces overwrite the rest of a longer line
    *sink_.stream << '\r' << line << std::flush;
    shown_ = length;
    next_ = now + kTerminalInterval;
  } else {
    *sink_.stream << line << '\n' << std::flush;
    next_ = now + kPlainInterval;
  }
}

void ProgressLine::finish() {
  const std::lock_guard lock(mutex_);
  if (sink_.stream != nullptr && shown_ > 0) {
    *sink_.stream << '\r' << std::string(shown_, ' ') << '\r' << std::flush;
  }
  sink_.stream = nullptr;
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<Index>(std::lround(std::clamp(seconds, 0.0, kLongest)));
  const Index minutes = whole / 60;
  if (minutes < 60) return fmt::format("{}:{:02}", minutes, whole % 60);
  return fmt::format("{}:{:02}:{:02}", minutes / 60, minutes % 60, whole % 60);
}

}  // namespace draft
