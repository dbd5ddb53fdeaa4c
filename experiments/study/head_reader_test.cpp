// Heads that are measured several at once are finished in their order.
#include "experiments/study/head_reader.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "harness/dump/writer.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

constexpr Index kHeads = 6;

class MeasureInOrder : public testing::Test {
 protected:
  /// Head h has h in all its numbers.
  MeasureInOrder() {
    DumpWriter writer(path_, {"tiny", "made by hand", Grid{1, 1, 2, 0}});
    CaptureInfo capture;
    capture.name = "call";
    writer.add_capture(capture, {kHeads, kHeads, 2, Element::float32, false, 0});
    for (Index head = 0; head < kHeads; ++head) {
      const Matrix rows = Matrix::Constant(2, 2, static_cast<double>(head));
      writer.write_head(head, rows, rows, rows);
    }
    writer.finish();
  }

  /// The first numbers of the heads that were finished, in that order. `measure` is called with each.
  template <typename Measure>
  std::vector<double> finished(std::size_t at_once, const Measure& measure) {
    const Dump dump = Dump::open(path_);
    std::vector<HeadSource> heads;
    for (Index head = 0; head < kHeads; ++head) {
      heads.push_back({{&dump.info().captures.front(), head, static_cast<std::uint64_t>(head)}});
    }
    HeadReader reader(dump, heads, {});
    std::vector<double> order;
    failed_.clear();
    try {
      measure_in_order(
          reader, at_once,
          [&](std::size_t i, const LoadedHead& head) {
            measure(i);
            return head.problem.q(0, 0);
          },
          [&](std::size_t i, double number) {
            EXPECT_EQ(i, order.size());
            order.push_back(number);
          });
    } catch (const std::exception& error) {
      failed_ = error.what();
    }
    return order;
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "x.h5";
  std::string failed_;
};

// Given heads of which the first take longest, claim: all are finished, in their order, and no more than `at_once` of
// them are measured at a time, though that many are.
TEST_F(MeasureInOrder, FinishesAllHeadsInTheirOrder) {
  for (const std::size_t at_once : {1, 3, 8}) {
    std::atomic<std::size_t> running{0}, most{0};
    const std::vector<double> order = finished(at_once, [&](std::size_t i) {
      const std::size_t now = ++running;
      for (std::size_t seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10 * (kHeads - static_cast<Index>(i))));
      --running;
    });
    EXPECT_EQ(order, (std::vector<double>{0, 1, 2, 3, 4, 5}));
    EXPECT_EQ(failed_, "");
    EXPECT_LE(most, std::min<std::size_t>(at_once, kHeads));
    EXPECT_GE(most, std::min<std::size_t>(at_once, 2));
  }
}

// Given a head that fails while one before it is still measured, claim: the heads before it are finished and no other.
TEST_F(MeasureInOrder, FinishesWhatStandsBeforeAFailure) {
  for (const std::size_t at_once : {1, 4}) {
    const std::vector<double> order = finished(at_once, [](std::size_t i) {
      if (i == 2) throw std::runtime_error("head 2");
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    });
    EXPECT_EQ(order, (std::vector<double>{0, 1}));
    EXPECT_EQ(failed_, "head 2");
  }
}

// The same of a head that cannot be read: the dump has none of this number.
TEST_F(MeasureInOrder, FinishesWhatStandsBeforeAHeadThatIsRefused) {
  const Dump dump = Dump::open(path_);
  const CaptureInfo* call = &dump.info().captures.front();
  for (const std::size_t at_once : {1, 4}) {
    HeadReader reader(dump, {{{call, 0, 0}}, {{call, 1, 1}}, {{call, kHeads, 2}}, {{call, 3, 3}}}, {});
    std::size_t done = 0;
    const auto measure = [](std::size_t, const LoadedHead& head) { return head.problem.q(0, 0); };
    EXPECT_ANY_THROW(measure_in_order(reader, at_once, measure, [&](std::size_t, double) { ++done; }));
    EXPECT_EQ(done, 2U);
  }
}

}  // namespace
}  // namespace draft
