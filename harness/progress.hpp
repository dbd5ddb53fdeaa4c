#pragma once
// A progress line on stderr: how much of a long run is done and how long the rest will take.

#include <functional>
#include <iosfwd>
#include <mutex>
#include <string>

#include "reference/problem.hpp"

namespace draft {

/// A progress line's output and clock; tests replace both.
struct ProgressSink {
  std::ostream* stream;           // not owned; null: silent
  bool terminal;                  // rewrite one line, else print plain lines
  std::function<double()> clock;  // seconds, rising

  /// stderr and the steady clock.
  static ProgressSink standard_error();
};

/// Silent for the first two seconds. Then on a terminal one line, rewritten at most five times a second;
/// elsewhere a plain line at most every ten seconds. finish() clears the terminal's line.
class ProgressLine {
 public:
  /// `total` steps of work.
  ProgressLine(std::string label, Index total, bool quiet, ProgressSink sink = ProgressSink::standard_error());
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  ~ProgressLine();

  /// Counts `steps` more steps as done. May be called from any thread.
  void advance(Index steps = 1);
  /// Ends the output. The destructor does it too.
  void finish();

 private:
  void show(double now);

  std::mutex mutex_;
  std::string label_;
  Index total_;
  Index done_ = 0;
  ProgressSink sink_;
  double start_ = 0.0, next_ = 0.0;  // when the next line may be shown
  std::size_t shown_ = 0;            // length of the line that is on the terminal
};

/// "0:05", "12:34", "3:00:59".
std::string clock_text(double seconds);

}  // namespace draft
