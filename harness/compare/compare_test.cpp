#include "harness/compare/compare.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "harness/compare/accuracy.hpp"
#include "harness/compare/separation.hpp"

namespace draft {
namespace {

const CompareOptions kDefaults;
constexpr double kBfloat16Roundoff = 1.0 / 256;

Json record(int head = 0, const Json& metrics = Json::object()) {
  Json made{{"experiment", "latency"}, {"status", "ok"}};
  made["input"] = {{"sha256", "ab"}, {"capture", "c"}, {"head", head}};
  made["config"] = {{"kernel", "mma"}, {"element", "bfloat16"}, {"device", "cuda"}};
  made["metrics"] = metrics;
  made["machine"] = {{"cpu", "A processor"}, {"gpu", "A GPU"}, {"sm_clock_mhz", 1980}};
  return made;
}

Json with_status(Json made, const std::string& status) {
  made["status"] = status;
  return made;
}

Json timed(int head, const std::vector<double>& samples) {
  Json made = record(head);
  made["timing"] = {{"samples_ms", samples}, {"median_ms", median(samples)}, {"l2_flush", true}};
  return made;
}

/// One record a cell, each with `count` samples around `middle` with 2% of noise.
std::vector<Json> timed_cells(int cells, std::size_t count, double middle, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(0.0, 0.02);
  std::vector<Json> records;
  for (int cell = 0; cell < cells; ++cell) {
    std::vector<double> samples(count);
    for (double& sample : samples) sample = middle * std::exp(noise(random));
    records.push_back(timed(cell, samples));
  }
  return records;
}

/// What is said of one cell with one metric: "verdict metric" or "".
std::string said(const Json& before, const Json& after, const CompareOptions& options = kDefaults) {
  const Comparison found = compare({before}, {after}, options);
  EXPECT_EQ(found.cells, 1U);
  EXPECT_LE(found.findings.size(), 1U);
  if (found.findings.empty()) return "";
  const char* verdicts[] = {"worse", "changed", "better"};
  return verdicts[static_cast<int>(found.findings[0].verdict)] + (" " + found.findings[0].metric);
}

std::string said_of(const std::string& metric, const Json& before, const Json& after,
                    const CompareOptions& options = kDefaults) {
  return said(record(0, {{metric, before}}), record(0, {{metric, after}}), options);
}

// Given: records with errors, checks, other metrics and timing, compared with themselves, also shuffled. Claim: nothing
// is found and everything is compared. Negative control: with one number changed it is.
TEST(Compare, IdenticalRecords) {
  std::vector<Json> records = timed_cells(20, 5, 3.0, 1);
  for (Json& made : records) made["metrics"] = {{"kernel_rel_l2", 0.01}, {"check_3_5", 1.0}, {"attention_recall", 0.9}};
  std::vector<Json> shuffled = records;
  std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937_64(2));
  for (const std::vector<Json>& other : {records, shuffled}) {
    const Comparison found = compare(records, other, kDefaults);
    EXPECT_EQ(found.cells, 20U);
    EXPECT_EQ(found.latencies, 20U);
    EXPECT_TRUE(found.findings.empty() && found.notes.empty() && found.only_before.empty() && found.only_after.empty());
    EXPECT_FALSE(found.fails(true));
  }
  shuffled[7]["metrics"]["kernel_rel_l2"] = 0.02;
  EXPECT_TRUE(compare(records, shuffled, kDefaults).fails(false));
}

// Given: the lines of both sides in another order. Claim: the same findings in the same order.
TEST(Compare, OrderOfLinesDoesNotMatter) {
  std::vector<Json> before, after;
  for (int head = 0; head < 12; ++head) {
    before.push_back(record(head, {{"kernel_rel_l2", 0.01}}));
    after.push_back(record(head, {{"kernel_rel_l2", head % 3 == 0 ? 0.1 : 0.01}}));
  }
  const Comparison straight = compare(before, after, kDefaults);
  std::reverse(before.begin(), before.end());
  std::shuffle(after.begin(), after.end(), std::mt19937_64(3));
  const Comparison mixed = compare(before, after, kDefaults);
  ASSERT_EQ(straight.findings.size(), 4U);
  ASSERT_EQ(mixed.findings.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(straight.findings[i].cell, mixed.findings[i].cell);
}

// Given: cells with several records. Claim: the last one counts on either side.
TEST(Compare, LastRecordOfACellCounts) {
  const Json failed = with_status(record(), "failed");
  EXPECT_EQ(compare({record()}, {failed, record()}, kDefaults).findings.size(), 0U);
  EXPECT_EQ(compare({record()}, {record(), failed}, kDefaults).count(Verdict::regression), 1U);
  EXPECT_EQ(compare({record(), failed}, {failed}, kDefaults).findings.size(), 0U);
}

// Given: errors around the ratio and the floor. Claim: worse (or better) only beyond both.
TEST(Compare, ErrorsOfKernels) {
  const double floor = kBfloat16Roundoff / 8;
  EXPECT_EQ(accuracy_floor("kernel_rel_l2", record()), floor);
  for (const char* metric : {"kernel_rel_l2", "kernel_max_abs", "kernel_worst_block_rel_l2"}) {
    const std::string worse = std::string("worse ") + metric, better = std::string("better ") + metric;
    EXPECT_EQ(said_of(metric, 0.0100, 0.0151), worse);
    EXPECT_EQ(said_of(metric, 0.0100, 0.0149), "");
    EXPECT_EQ(said_of(metric, 0.0151, 0.0100), better);
    EXPECT_EQ(said_of(metric, 0.0, 0.9 * floor), "");
    EXPECT_EQ(said_of(metric, 0.0, 1.1 * floor), worse);
    EXPECT_EQ(said_of(metric, 1e-9, 1e-6), "");
    EXPECT_EQ(said_of(metric, 1e-9, 1e-6, {.accuracy_floor = 0.0}), worse);
    EXPECT_EQ(said_of(metric, 0.0100, 0.0151, {.accuracy_ratio = 2.0}), "");
  }
  EXPECT_EQ(said_of("kernel_lse_max_abs", 1e-6, 2e-6), "worse kernel_lse_max_abs") << "the element rounds no lse";
  EXPECT_EQ(said_of("kernel_lse_max_abs", 1e-8, 1e-7), "");
  EXPECT_EQ(said_of("lse_over_tolerance", 0.2, 0.4), "worse lse_over_tolerance");
  EXPECT_EQ(said_of("lse_over_tolerance", 0.01, 0.05), "");
  EXPECT_EQ(said_of("lse_over_tolerance", 0.99, 1.01), "worse lse_over_tolerance") << "it exceeds the tolerance now";
}

// Given: elements. Claim: the floor is an eighth of their unit roundoff, float32's where none is named.
TEST(Compare, FloorFollowsTheElement) {
  Json made = record();
  for (const auto& [element, roundoff] : {std::pair{"bfloat16", std::ldexp(1.0, -8)},
                                          {"float16", std::ldexp(1.0, -11)},
                                          {"float32", std::ldexp(1.0, -24)},
                                          {"float64", std::ldexp(1.0, -53)}}) {
    made["config"]["element"] = element;
    EXPECT_EQ(accuracy_floor("kernel_max_abs", made), roundoff / 8);
    EXPECT_EQ(accuracy_floor("kernel_lse_max_abs", made), std::ldexp(1.0, -21));
  }
  made["config"].erase("element");
  EXPECT_EQ(accuracy_floor("kernel_max_abs", made), std::ldexp(1.0, -27));
}

// Given: numbers that became NaN, infinite, null or went missing. Claim: worse, whatever the metric; what only reports
// a share of attention may go missing, and that is a change. What never was finite is not found again.
TEST(Compare, NotFiniteAndMissing) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();
  for (const char* metric : {"kernel_rel_l2", "check_3_5", "attention_recall"}) {
    for (const Json& value : {Json(nan), Json(infinity), Json(nullptr)}) {
      EXPECT_EQ(said_of(metric, 0.5, value), std::string("worse ") + metric);
    }
    EXPECT_EQ(said_of(metric, nan, nan), "");
    EXPECT_EQ(said(record(), record(0, {{metric, nan}})), std::string("worse ") + metric);
    EXPECT_EQ(said(record(), record(0, {{metric, 1.0}})), "");
  }
  EXPECT_EQ(said(record(0, {{"kernel_rel_l2", 0.5}}), record()), "worse kernel_rel_l2");
  EXPECT_EQ(said(record(0, {{"check_3_5", 1.0}}), record()), "worse check_3_5");
  EXPECT_EQ(said(record(0, {{"attention_recall", 0.5}}), record()), "changed attention_recall");
}

// Given: checks and other metrics. Claim: a check that falls is worse; other metrics are changed beyond the tolerance
// and fail a strict comparison only.
TEST(Compare, ChecksAndOtherMetrics) {
  EXPECT_EQ(said_of("check_3_5", 1.0, 0.0), "worse check_3_5");
  EXPECT_EQ(said_of("check_3_5", 0.0, 1.0), "better check_3_5");
  EXPECT_EQ(said_of("attention_recall", 0.9, 0.9 * (1 + 0.5e-9)), "");
  EXPECT_EQ(said_of("attention_recall", 0.9, 0.9 * (1 + 2e-9)), "changed attention_recall");
  EXPECT_EQ(said_of("attention_recall", 0.9, 0.8, {.metric_tolerance = 0.2}), "");
  EXPECT_EQ(said_of("step_1_residual", 1e-15, 4e-15), "");
  EXPECT_EQ(said_of("step_1_residual", 1e-15, 4e-9), "changed step_1_residual");
  EXPECT_EQ(said_of("max_dropped_mass", 1e-15, 4e-15), "changed max_dropped_mass");
  EXPECT_EQ(said_of("kernel_tflops", 600.0, 300.0), "changed kernel_tflops") << "no error: lower is not better";
  const Comparison changed =
      compare({record(0, {{"attention_recall", 0.9}})}, {record(0, {{"attention_recall", 0.8}})}, kDefaults);
  EXPECT_FALSE(changed.fails(false));
  EXPECT_TRUE(changed.fails(true));
}

// Given: every pair of statuses. Claim: worse if the cell worked and does not, or fails now; the reason is told;
// --allow-skipped forgives skips alone.
TEST(Compare, Statuses) {
  const auto judged = [](const std::string& before, const std::string& after, const CompareOptions& options) {
    return said(with_status(record(), before), with_status(record(), after), options);
  };
  for (const bool allowed : {false, true}) {
    const CompareOptions options{.allow_skipped = allowed};
    EXPECT_EQ(judged("ok", "ok", options), "");
    EXPECT_EQ(judged("ok", "failed", options), "worse status");
    EXPECT_EQ(judged("ok", "skipped", options), allowed ? "changed status" : "worse status");
    EXPECT_EQ(judged("skipped", "failed", options), "worse status");
    EXPECT_EQ(judged("failed", "skipped", options), "changed status");
    EXPECT_EQ(judged("failed", "ok", options), "better status");
    EXPECT_EQ(judged("skipped", "ok", options), "better status");
  }
  const Comparison found = compare({record()}, {skipped(record(), "head_dim 96")}, kDefaults);
  EXPECT_EQ(found.findings.at(0).note, "head_dim 96");
  EXPECT_EQ(compare({with_status(record(), "failed")}, {with_status(record(), "failed")}, kDefaults).notes,
            std::vector<std::string>{"failed in both (1 cell)"});
}

// Given: sides that share one cell, and none. Claim: the others are told, and fail a strict comparison if they are
// gone.
TEST(Compare, CellsOfOneSide) {
  const Comparison gone = compare({record(0), record(1)}, {record(1)}, kDefaults);
  EXPECT_EQ(gone.cells, 1U);
  EXPECT_EQ(gone.only_before.at(0)["input"]["head"], 0);
  EXPECT_FALSE(gone.fails(false));
  EXPECT_TRUE(gone.fails(true));
  const Comparison more = compare({record(1)}, {record(0), record(1)}, kDefaults);
  EXPECT_EQ(more.only_after.size(), 1U);
  EXPECT_FALSE(more.fails(true));
  EXPECT_EQ(compare({record(0)}, {record(1)}, kDefaults).cells, 0U);
}

// Given: configs that differ in one key, which also differs between the sides. Claim: that key alone varies.
TEST(Compare, VaryingKeys) {
  Json other = record();
  other["config"]["kernel"] = "wgmma";
  EXPECT_EQ(compare({record()}, {other}, kDefaults).varying, std::set<std::string>{"kernel"});
}

// Given: two runs of twenty cells with noise of 2%, over many seeds, with few samples and with more. Claim: a false
// alarm in a family at most as often as the union bound over its cells allows (five standard deviations on top).
// Negative control: the same cells 10% slower are found.
TEST(Compare, NoiseIsNoRegression) {
  constexpr int kFamilies = 500, kCells = 20;
  for (const std::size_t count : {5, 12}) {
    int alarms = 0, slow_found = 0;
    for (std::uint64_t seed = 0; seed < kFamilies; ++seed) {
      const std::vector<Json> before = timed_cells(kCells, count, 1.0, 2 * seed);
      const Comparison same = compare(before, timed_cells(kCells, count, 1.0, 2 * seed + 1), kDefaults);
      const Comparison slow = compare(before, timed_cells(kCells, count, 1.1, 2 * seed + 1), kDefaults);
      alarms += same.findings.empty() ? 0 : 1;
      slow_found += slow.fails(false) ? 1 : 0;
    }
    const double mean = kFamilies * std::min(1.0, 2.0 * kCells * separation_chance(count, count));
    EXPECT_LE(alarms, mean + 5.0 * std::sqrt(mean)) << count;
    EXPECT_EQ(slow_found, kFamilies) << count;
  }
}

// Given: a planted slowdown among equal cells. Claim: that cell alone, with both medians; a speed-up does not fail.
TEST(Compare, PlantedSlowdown) {
  std::vector<Json> before = timed_cells(30, 20, 1.0, 4), after = timed_cells(30, 20, 1.0, 5);
  after[11] = timed_cells(12, 20, 1.1, 6)[11];
  const Comparison found = compare(before, after, kDefaults);
  ASSERT_EQ(found.findings.size(), 1U);
  EXPECT_EQ(found.findings[0].verdict, Verdict::regression);
  EXPECT_EQ(found.findings[0].metric, "median_ms");
  EXPECT_EQ(found.findings[0].cell["input"]["head"], 11);
  EXPECT_EQ(found.findings[0].before, before[11]["timing"]["median_ms"]);
  EXPECT_EQ(found.findings[0].after, after[11]["timing"]["median_ms"]);
  EXPECT_TRUE(found.fails(false));
  const Comparison better = compare(after, before, kDefaults);
  EXPECT_EQ(better.count(Verdict::improvement), 1U);
  EXPECT_FALSE(better.fails(true));
  EXPECT_TRUE(compare(before, after, {.latency_ratio = 1.5}).findings.empty());
}

// Given: cells with a latency that the new side lacks: no timing, no samples, too few, a median alone, one that is no
// time; beside a cell that still has one. Claim: worse, as "timing". Negative control: enough samples, and a cell that
// had too few already.
TEST(Compare, LostLatencies) {
  const std::vector<double> all(12, 1.0);
  const std::vector<Json> before{timed(0, all), timed(1, all)};
  const auto worse = [&](const Json& after, const std::vector<Json>& old) {
    return compare(old, {timed(0, all), after}, kDefaults).count(Verdict::regression);
  };
  Json median_alone = timed(1, all), empty = median_alone;
  median_alone["timing"] = {{"median_ms", 100.0}, {"l2_flush", true}};
  empty["timing"]["samples_ms"] = Json::array();
  for (const Json& after : {record(1), median_alone, empty, timed(1, {100.0}), timed(1, {100.0, 100.0}),
                            timed(1, {100.0, 100.0, 100.0, std::nan("")})}) {
    EXPECT_EQ(worse(after, before), 1U) << after["timing"];
    EXPECT_EQ(compare(before, {timed(0, all), after}, kDefaults).findings.at(0).metric, "timing");
  }
  EXPECT_EQ(worse(timed(1, {1.0, 1.0, 1.0}), before), 0U);
  EXPECT_EQ(worse(timed(1, {1.0}), {timed(0, all), timed(1, {1.0, 1.0})}), 0U);
}

// Given: cells and checks that only the new side has. Claim: what is broken by itself is worse; what is sound is not.
TEST(Compare, NewButBroken) {
  const auto worse = [](const Json& after) {
    return compare({record(0)}, {record(0), after}, kDefaults).count(Verdict::regression);
  };
  EXPECT_EQ(worse(record(1)), 0U);
  EXPECT_EQ(worse(with_status(record(1), "skipped")), 0U);
  EXPECT_EQ(worse(with_status(record(1), "failed")), 1U);
  EXPECT_EQ(worse(record(1, {{"check_3_3", 1.0}, {"lse_over_tolerance", 0.5}, {"check_3_5", kNotApplicable}})), 0U);
  EXPECT_EQ(worse(record(1, {{"check_3_3", 0}})), 1U);
  EXPECT_EQ(worse(record(1, {{"lse_over_tolerance", 1.5}})), 1U);
  EXPECT_EQ(worse(record(0, {{"check_3_3", 0}})), 1U) << "the cell is old, the check is new";
  EXPECT_EQ(worse(record(0, {{"check_3_3", 1}})), 0U);
}

// Given: values that cease to be numbers. Claim: of an error and of a check that is worse; of others a change.
TEST(Compare, NoLongerApplicable) {
  EXPECT_EQ(said_of("kernel_rel_l2", 1e-3, kNotApplicable), "worse kernel_rel_l2");
  EXPECT_EQ(said_of("lse_over_tolerance", 0.5, kNotApplicable), "worse lse_over_tolerance");
  EXPECT_EQ(said_of("check_3_3", 1.0, kNotApplicable), "worse check_3_3");
  EXPECT_EQ(said_of("output_psnr", 20.0, kNotApplicable), "changed output_psnr");
  EXPECT_EQ(said_of("kernel_rel_l2", kNotApplicable, 1e-3), "changed kernel_rel_l2");
  EXPECT_EQ(said_of("check_3_3", kNotApplicable, 0.0), "worse check_3_3");
}

// Given: samples near the largest double. Claim: their median is a number.
TEST(Compare, LargestSamples) {
  EXPECT_EQ(median({1e308, 1.5e308}), 1.25e308);
  const std::vector<Json> records{timed(0, std::vector<double>(12, 1e308))};
  EXPECT_EQ(compare(records, records, kDefaults).judged.at(0).before, 1e308);
}

// Given: ten times slower records of another GPU, with another flush, with too few samples on both sides. Claim: not
// judged, and one line says why. On the CPU another GPU does not matter.
TEST(Compare, LatenciesThatCannotBeCompared) {
  const Json before = timed(0, {1.0, 1.0, 1.0}), slow = timed(0, {10.0, 10.0, 10.0});
  EXPECT_EQ(said(before, slow), "worse median_ms");
  const auto note = [&](const Json& after) {
    const Comparison found = compare({before}, {after}, kDefaults);
    EXPECT_TRUE(found.findings.empty());
    EXPECT_EQ(found.latencies, 0U);
    return found.notes.empty() ? "" : found.notes[0];
  };
  Json other = slow;
  other["machine"]["gpu"] = "B GPU";
  EXPECT_EQ(note(other), "latency not compared: measured on A GPU, now on B GPU (1 cell)");
  Json warm = slow;
  warm["timing"]["l2_flush"] = false;
  EXPECT_EQ(note(warm), "latency not compared: l2_flush was true, now is false (1 cell)");
  const std::string few = "latency not compared: fewer than 3 samples, or one that is no positive number (1 cell)";
  const Json few_before = timed(0, {1.0, 1.0});
  EXPECT_EQ(compare({few_before}, {few_before}, kDefaults).notes.at(0), few);
  Json old_on_cpu = before, on_cpu = other;
  old_on_cpu["config"]["device"] = on_cpu["config"]["device"] = "cpu";
  EXPECT_EQ(said(old_on_cpu, on_cpu), "worse median_ms");
  on_cpu["machine"]["cpu"] = "B processor";
  EXPECT_EQ(said(old_on_cpu, on_cpu), "");
}

// Given: a slower record at a lower clock. Claim: still worse, and the clocks are told; not if they differ little.
TEST(Compare, ClocksAreTold) {
  const Json before = timed(0, {1.0, 1.0, 1.0});
  Json after = timed(0, {1.2, 1.2, 1.2});
  EXPECT_EQ(compare({before}, {after}, kDefaults).findings.at(0).note, "");
  after["machine"]["sm_clock_mhz"] = 1950;
  EXPECT_EQ(compare({before}, {after}, kDefaults).findings.at(0).note, "");
  after["timing"]["sm_clock_after_mhz"] = 1650;
  const Comparison found = compare({before}, {after}, kDefaults);
  EXPECT_EQ(found.findings.at(0).note, "SM clock 1980 MHz, now 1650 MHz");
  EXPECT_TRUE(found.fails(false));
}

}  // namespace
}  // namespace draft
