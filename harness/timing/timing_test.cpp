#include "harness/timing/timing.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "harness/compare/timing_match.hpp"

namespace draft {
namespace {

constexpr double kUnit = std::numeric_limits<double>::epsilon();

// Given 2 TFLOP in a median of 4 ms, claim: 500 TFLOP/s, and a form that timing_match reads.
TEST(Timing, ARecordHoldsSamplesStatisticsAndRate) {
  WorkTimes times;
  times.samples_ms = {5, 4, 3, 4.5, 3.5};
  times.warmup = 2;
  times.l2_flush = 1 << 20;
  times.hampered = 0;
  const Json timing = timing_of(times, 2e12);
  EXPECT_EQ(timing["median_ms"], 4.0);
  EXPECT_EQ(timing["samples_ms"].size(), 5U);
  EXPECT_LE(std::abs(timing["tflops_kept"].get<double>() - 500), 500 * 2 * kUnit);
  EXPECT_EQ(timing["warmup"], 2);
  EXPECT_EQ(timing["l2_flush"], 1 << 20);
  EXPECT_FALSE(timing.contains("hampered_samples"));
  EXPECT_EQ(timing_samples(Json{{"timing", timing}}), times.samples_ms);
  EXPECT_FALSE(timing_of(times).contains("tflops_kept"));
  EXPECT_FALSE(timing.contains("calls_per_sample"));
  times.calls = 4;
  EXPECT_EQ(timing_of(times)["calls_per_sample"], 4);
  times.hampered = 3;
  EXPECT_EQ(timing_of(times)["hampered_samples"], 3);
}

TEST(Timing, TheMachineSaysWhatNvmlTold) {
  WorkTimes times;
  Json machine{{"gpu", "one"}};
  add_gpu_state(times, machine);
  EXPECT_EQ(machine.dump(), R"({"gpu":"one"})");
  times.before = {1980.0, 120.5, 0};
  times.after.sm_clock_mhz = 1500.0;
  times.hampered = 0;
  times.throttle = {"sw_power_cap"};
  add_gpu_state(times, machine);
  EXPECT_EQ(machine["sm_clock_before_mhz"], 1980.0);
  EXPECT_EQ(machine["sm_clock_after_mhz"], 1500.0);
  EXPECT_EQ(machine["power_before_w"], 120.5);
  EXPECT_FALSE(machine.contains("power_after_w"));
  EXPECT_EQ(machine["throttle_reasons"], Json({"sw_power_cap"}));
}

TEST(Timing, ThrottleReasonsHaveNames) {
  EXPECT_TRUE(throttle_names(0).empty());
  EXPECT_TRUE(throttle_names(1).empty());  // idle
  EXPECT_EQ(throttle_names(0x4 | 0x40), (std::vector<std::string>{"sw_power_cap", "hw_thermal_slowdown"}));
  EXPECT_EQ(throttle_names(std::uint64_t{1} << 40), std::vector<std::string>{"unknown"});
  for (const std::uint64_t bits : {0x1, 0x2, 0x4, 0x10, 0x100}) EXPECT_FALSE(is_hampered(bits)) << bits;
  for (const std::uint64_t bits : {0x8, 0x20, 0x40, 0x80, 0x84}) EXPECT_TRUE(is_hampered(bits)) << bits;
}

}  // namespace
}  // namespace draft
