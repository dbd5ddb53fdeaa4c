#include "harness/progress.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <thread>
#include <vector>

namespace draft {
namespace {

/// A progress line of 100 steps whose time and output belong to the test.
struct Bench {
  explicit Bench(bool terminal, bool quiet = false)
      : line("measuring", 100, quiet, {&stream, terminal, [this] { return now; }}) {}
  /// Advances by n steps at a time and returns what was printed for it.
  std::string at(double time, Index steps) {
    now = time;
    stream.str("");
    line.advance(steps);
    return stream.str();
  }
  std::ostringstream stream;
  double now = 1000.0;
  ProgressLine line;
};

// Given: a terminal. Claim: silent for two seconds, then at most five lines a second with the time left.
TEST(Progress, TerminalLine) {
  Bench bench(true);
  EXPECT_EQ(bench.at(1000.5, 5), "");
  EXPECT_EQ(bench.at(1001.99, 5), "");
  EXPECT_EQ(bench.at(1002.0, 10), "\rmeasuring: 20%, 0:08 left");
  EXPECT_EQ(bench.at(1002.19, 1), "");
  EXPECT_EQ(bench.at(1005.0, 29), "\rmeasuring: 50%, 0:05 left");
}

// Given: a line shorter than the one before. Claim: spaces cover the rest, and finish() clears all of it.
TEST(Progress, ClearsWhatItWrote) {
  Bench bench(true);
  EXPECT_EQ(bench.at(1000.0 + 72.0, 2), "\rmeasuring: 2%, 58:48 left");
  EXPECT_EQ(bench.at(1073.0, 98), "\rmeasuring: 100%, 0:00 left");
  bench.stream.str("");
  bench.line.finish();
  EXPECT_EQ(bench.stream.str(), "\r" + std::string(26, ' ') + "\r");
  EXPECT_EQ(bench.at(2000.0, 1), "");
}

// Given: no terminal. Claim: whole lines, at most one in ten seconds, and nothing at the end.
TEST(Progress, PlainLines) {
  Bench bench(false);
  EXPECT_EQ(bench.at(1009.9, 10), "");
  EXPECT_EQ(bench.at(1010.0, 15), "measuring: 25%, 0:30 left\n");
  EXPECT_EQ(bench.at(1019.0, 1), "");
  EXPECT_EQ(bench.at(1020.0, 24), "measuring: 50%, 0:20 left\n");
  bench.stream.str("");
  bench.line.finish();
  EXPECT_EQ(bench.stream.str(), "");
}

// Given: --quiet. Claim: nothing is printed.
TEST(Progress, QuietIsSilent) {
  Bench bench(true, true);
  EXPECT_EQ(bench.at(2000.0, 50), "");
  bench.line.finish();
  EXPECT_EQ(bench.stream.str(), "");
}

// Given: many threads. Claim: no step is lost.
TEST(Progress, CountsStepsOfAllThreads) {
  Bench bench(false);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 20; ++i) bench.line.advance();
      });
    }
  }
  EXPECT_EQ(bench.at(1010.0, 0), "measuring: 80%, 0:02 left\n");  // 80 steps in 10 s, 20 left: 2.5 s
}

TEST(Progress, ClockText) {
  EXPECT_EQ(clock_text(0.4), "0:00");
  EXPECT_EQ(clock_text(65.0), "1:05");
  EXPECT_EQ(clock_text(3 * 3600 + 59.0), "3:00:59");
  EXPECT_EQ(clock_text(1e30), "99:59:59");
}

}  // namespace
}  // namespace draft
