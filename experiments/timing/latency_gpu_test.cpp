// `latency` and `overhead` on a GPU: masks are what their policies say, gathered attention is attention, records are
// whole. How long anything takes is not judged.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "experiments/device/call.hpp"
#include "experiments/timing/latency.hpp"
#include "experiments/timing/overhead.hpp"
#include "harness/compare/timing_match.hpp"
#include "harness/dump/synthetic.hpp"
#include "harness/gpu.hpp"
#include "harness/numbers/half_tensor.hpp"
#include "harness/record/metric_table.hpp"
#include "harness/temporary_directory.hpp"
#include "harness/timing/gpu_timing.hpp"

namespace draft {
namespace {

const gpu::AttentionKernel& kernel_of(const std::string& name) {
  for (const gpu::AttentionKernel& kernel : gpu::attention_kernels()) {
    if (kernel.name == name) return kernel;
  }
  throw std::invalid_argument("no kernel " + name);
}

class Timed : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_gpu(); !why.empty()) GTEST_SKIP() << why;
    require_gpu("latency_gpu_test");
    options_.dump = "2x3x16x32+21";
    options_.head_dim = 64;
  }

  /// The draft's lists of a call.
  static std::unique_ptr<DeviceLists> draft_lists(const DeviceCall& call, Rule rule, double sparsity) {
    auto lists = std::make_unique<DeviceLists>(call.layout());
    const gpu::MaskPipeline pipeline(call.layout());
    const gpu::Stream stream;
    pipeline.enqueue(call.draft({.rule = rule, .sparsity = sparsity}, *lists), stream.get());
    pipeline.require_fine();
    return lists;
  }

  static void run(const DeviceCall::Work& work) {
    const gpu::Stream stream;
    work(stream.get());
    stream.wait();
  }

  TimedOptions options_;
};

/// Columns ascend and hold the text, text rows hold all, and the order is one of falling counts.
void expect_valid(const HostLists& lists, const gpu::Layout& layout) {
  const auto blocks = static_cast<std::size_t>(layout.blocks()), regions = static_cast<std::size_t>(layout.regions());
  const auto text = static_cast<std::size_t>(layout.text_blocks());
  for (std::size_t head = 0; head < static_cast<std::size_t>(layout.heads); ++head) {
    const std::int32_t* counts = lists.counts.data() + head * blocks;
    for (std::size_t row = 0; row < blocks; ++row) {
      const auto count = static_cast<std::size_t>(counts[row]);
      const std::uint16_t* columns = lists.columns.data() + (head * blocks + row) * blocks;
      ASSERT_GE(count, text);
      ASSERT_LE(count, blocks);
      if (row >= regions) {
        EXPECT_EQ(count, blocks);
      }
      for (std::size_t i = 1; i < count; ++i) ASSERT_LT(columns[i - 1], columns[i]);
      for (std::size_t t = 0; t < text; ++t) EXPECT_EQ(columns[count - text + t], regions + t);
    }
    const std::uint16_t* order = lists.order.data() + head * blocks;
    EXPECT_EQ(std::set<std::uint16_t>(order, order + blocks).size(), blocks);
    for (std::size_t i = 1; i < blocks; ++i) {
      const std::int32_t before = counts[order[i - 1]], own = counts[order[i]];
      EXPECT_TRUE(before > own || (before == own && order[i - 1] < order[i])) << i;
    }
  }
}

TEST_F(Timed, MasksOfEveryPolicyKeepWhatTheyClaim) {
  DeviceCall call(CallSource::open(options_));
  call.set_region({8, 16}, false);
  const gpu::Layout& layout = call.layout();
  const Index heads = layout.heads, regions = layout.regions(), text = layout.text_blocks();
  ASSERT_EQ(regions, 12);
  ASSERT_EQ(text, 1);
  for (const double sparsity : {0.3, 0.5, 0.9}) {
    const Index kept = kept_count(sparsity, regions * regions);
    for (const Policy policy : {Policy::random, Policy::uneven, Policy::worst}) {
      const HostLists host = lists_of(policy_masks(policy, heads, regions, sparsity, 1), text);
      const HostLists found = DeviceLists(layout, host).download();
      EXPECT_EQ(found.columns, host.columns);
      expect_valid(found, layout);
      const KeptCounts counts = kept_counts(found.counts, heads, regions, text);
      const Index wanted = policy == Policy::worst ? std::max<Index>(kept / regions, 1) * regions : kept;
      EXPECT_EQ(counts.kept_blocks, heads * wanted) << to_string(policy) << " " << sparsity;
    }
    for (const Rule rule : {Rule::softmax, Rule::logits}) {
      const HostLists found = draft_lists(call, rule, sparsity)->download();
      expect_valid(found, layout);
      EXPECT_EQ(kept_counts(found.counts, heads, regions, text).kept_blocks, heads * kept) << to_string(rule);
    }
  }
}

/// |a - b| / |b| of outputs in bfloat16.
double relative_l2(const std::vector<std::uint16_t>& a, const std::vector<std::uint16_t>& b) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double x = from_bits(a[i], Element::bfloat16), y = from_bits(b[i], Element::bfloat16);
    difference += (x - y) * (x - y);
    size += y * y;
  }
  return std::sqrt(difference / size);
}

// Claim: gathered attention is the attention of token order. P and O are rounded to bfloat16 in either, by 2^-9 of
// themselves at most; two results may so differ by twice the sum of both, and the errors of fp32 sums of 64 products,
// 64 * 2^-24, vanish beside them. Tokens that stay in region order are found.
TEST_F(Timed, GatheredAttentionIsThatOfTokenOrder) {
  DeviceCall call(CallSource::open(options_));
  call.set_region({8, 16}, true);
  const auto lists = draft_lists(call, Rule::softmax, 0.5);
  const double tolerance = 2 * (std::exp2(-9) + std::exp2(-9)) + 4 * 64 * std::exp2(-24);
  for (const DeviceLists* mask :
       {static_cast<const DeviceLists*>(lists.get()), static_cast<const DeviceLists*>(nullptr)}) {
    run(call.attention(kernel_of("mma"), TokenOrder::token, mask));
    const std::vector<std::uint16_t> token = call.output();
    run(call.attention(kernel_of("mma"), TokenOrder::gather, mask));
    EXPECT_LE(relative_l2(call.output(), token), tolerance);
    run([&](cudaStream_t stream) {  // what region order looks like where token order is wanted
      const gpu::DeviceBuffer<std::uint16_t> rows{std::span<const std::uint16_t>(token)}, moved(rows.size());
      gpu::reorder(call.layout(), rows.data(), moved.data(), stream);
      EXPECT_GT(relative_l2(moved.download(), token), 10 * tolerance);
    });
  }
}

TEST_F(Timed, WorkIsSampledAsOftenAsPlannedAndErrorsStayAlone) {
  const gpu::DeviceBuffer<std::uint8_t> memory(1 << 20);
  int runs = 0, after = 0;
  const std::vector<TimedWork> works{{"sets memory",
                                      [&](cudaStream_t stream) {
                                        ++runs;
                                        gpu::check(cudaMemsetAsync(memory.data(), 0, memory.bytes(), stream),
                                                   "cudaMemsetAsync");
                                      }},
                                     {"throws", [](cudaStream_t) { throw std::runtime_error("no such work"); }}};
  const std::vector<WorkTimes> times = time_on_gpu(works, {7, 3}, [&] { ++after; });
  ASSERT_EQ(times.size(), 2U);
  EXPECT_EQ(times[0].error, "");
  ASSERT_EQ(times[0].samples_ms.size(), 7U);
  for (const double ms : times[0].samples_ms) EXPECT_TRUE(std::isfinite(ms) && ms > 0) << ms;
  EXPECT_EQ(runs, 7 + 3);
  EXPECT_EQ(after, 14);
  EXPECT_GT(times[0].l2_flush, 0U);
  EXPECT_NE(times[1].error.find("no such work"), std::string::npos);
  EXPECT_TRUE(times[1].samples_ms.empty());
}

// Given work of about 0.1 ms and samples of 5 ms at least, claim: a sample is of many runs, the warm-up's one aside,
// and stands for one of them: far below 5 ms. What takes longer than a sample runs once.
TEST_F(Timed, SustainedSamplesAreOfRunsInARow) {
  const gpu::DeviceBuffer<std::uint8_t> memory(std::size_t{256} << 20);
  int runs = 0;
  const auto set_memory = [&](cudaStream_t stream) {
    ++runs;
    gpu::check(cudaMemsetAsync(memory.data(), 0, memory.bytes(), stream), "cudaMemsetAsync");
  };
  const WorkTimes many =
      time_on_gpu({{"sets memory", set_memory}}, {.samples = 3, .warmup = 0, .at_least_ms = 5}).at(0);
  ASSERT_EQ(many.error, "");
  EXPECT_EQ(many.warmup, 1);
  EXPECT_GT(many.calls, 4);
  EXPECT_EQ(runs, 1 + 3 * many.calls);
  EXPECT_LT(many.median_ms(), 2.5);
  const WorkTimes one =
      time_on_gpu({{"sets memory", set_memory}}, {.samples = 3, .warmup = 2, .at_least_ms = 1e-3}).at(0);
  EXPECT_EQ(one.calls, 1);
}

class TimedDump : public Timed {
 protected:
  void SetUp() override {
    Timed::SetUp();
    if (IsSkipped()) return;
    const SyntheticSpec spec{SyntheticKind::iid, {2, 16, 32, 5}, 2, 1, 64, 7};
    write_synthetic_dump(directory_ / "iid.h5", spec, Element::bfloat16, "latency_gpu_test");
  }

  template <typename AnyOptions>
  AnyOptions on_dump() const {
    AnyOptions options;
    options.dump = directory_ / "iid.h5";
    options.out = directory_ / "records.jsonl";
    options.samples = 3;
    options.warmup = 1;
    options.quiet = true;
    options.kernels = {"mma", "blas"};
    options.sparsities = {0.5};
    return options;
  }
  [[nodiscard]] std::vector<Json> records() const { return read_records(directory_ / "records.jsonl"); }

  TemporaryDirectory directory_;
};

void expect_timed(const Json& record) {
  ASSERT_EQ(record["status"], "ok") << record;
  const std::vector<double> samples = timing_samples(record);  // none if one is not finite and positive
  EXPECT_EQ(samples.size(), 3U) << record;
  for (const char* name : {"median_ms", "p10_ms", "p90_ms"})
    EXPECT_GT(record["timing"][name].get<double>(), 0) << record;
  EXPECT_GT(record["timing"]["l2_flush"].get<std::int64_t>(), 0);
  EXPECT_GT(record["metrics"]["matmul_tflops"].get<double>(), 0);
  EXPECT_EQ(record["metrics"]["total_blocks"], 2 * 64);
  for (const auto& [name, value] : record["metrics"].items()) EXPECT_NE(find_metric(name), nullptr) << name;
}

TEST_F(TimedDump, LatencyWritesARecordForEveryCellAndContinues) {
  auto options = on_dump<LatencyOptions>();
  options.orders = {"token", "region", "gather"};
  options.policies = {"draft", "random", "uneven", "worst"};
  ASSERT_EQ(latency(options, gpu::attention_kernels()), kExitFine);
  const std::size_t cells = 2 * 3 * (1 + 4);
  ASSERT_EQ(records().size(), cells);
  std::set<std::string> different;
  for (const Json& record : records()) {
    expect_timed(record);
    different.insert(record["config"].dump());
    EXPECT_GT(record["timing"]["tflops_kept"].get<double>(), 0);
    EXPECT_GT(record["metrics"]["speedup_over_dense"].get<double>(), 0);
    EXPECT_EQ(record["metrics"].contains("draft_ms"), record["config"]["policy"] == "draft");
    EXPECT_EQ(record["metrics"]["kept_blocks"], record["config"]["policy"] == "dense" ? 128 : 64);
    if (record["config"]["policy"] == "worst") {
      EXPECT_EQ(record["metrics"]["empty_rows"], 2 * 4);  // of 8 rows a head
    }
    EXPECT_FALSE(record["metrics"].contains("projected_speedup"));  // none of the paper's calls
    EXPECT_EQ(record["input"]["shape"], "2x2x16x32+5");
  }
  EXPECT_EQ(different.size(), cells);

  ASSERT_EQ(latency(options, gpu::attention_kernels()), kExitFine);
  EXPECT_EQ(records().size(), cells) << "cells were timed twice";
  options.kernels = {"mma"};
  options.orders = {"token"};
  options.policies = {"worst"};
  options.sparsities = {0.75};
  ASSERT_EQ(latency(options, gpu::attention_kernels()), kExitFine);
  EXPECT_EQ(records().size(), cells + 2) << "wanted the new cell and its own dense call";
}

TEST_F(TimedDump, SustainedLatencyIsAnExperimentOfItsOwn) {
  auto options = on_dump<LatencyOptions>();
  options.kernels = {"mma"};
  ASSERT_EQ(latency(options, gpu::attention_kernels()), kExitFine);
  options.sustain_ms = 2;
  for (int repeat = 0; repeat < 2; ++repeat) {  // the second finds all cells done
    ASSERT_EQ(latency(options, gpu::attention_kernels()), kExitFine);
    ASSERT_EQ(records().size(), 2U + 2U);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    const Json record = records()[i];
    expect_timed(record);
    EXPECT_EQ(record["experiment"], i < 2 ? "latency" : "latency_sustained");
    EXPECT_EQ(record["config"].contains("sustain_ms"), i >= 2);
    EXPECT_EQ(record["timing"].contains("calls_per_sample"), i >= 2) << record;
  }
}

TEST_F(TimedDump, LatencySaysWhatAKernelDoesNotSupport) {
  auto options = on_dump<LatencyOptions>();
  options.regions = {{5, 7}};
  gpu::AttentionKernel picky = kernel_of("mma");
  picky.name = "picky";
  picky.unsupported = [](const gpu::Attention&, int) { return std::string("never"); };
  options.kernels = {"picky"};
  ASSERT_EQ(latency(options, {picky}), kExitFine);
  ASSERT_EQ(records().size(), 2U);
  for (const Json& record : records()) {
    EXPECT_EQ(record["status"], "skipped");
    EXPECT_EQ(record["reason"], "never");
  }
  picky.unsupported = [](const gpu::Attention&, int) { return std::string(); };
  picky.launch = [](const gpu::Attention&, const gpu::Resources&, cudaStream_t) { throw std::runtime_error("broken"); };
  options.out = "";
  EXPECT_EQ(latency(options, {picky}), kExitCheckFailed);
  options.kernels = {"fastest"};
  EXPECT_THROW(latency(options, {picky}), UsageError);
}

TEST_F(TimedDump, OverheadTimesEveryPart) {
  auto options = on_dump<TimedOptions>();
  options.kernels = {"mma"};
  ASSERT_EQ(overhead(options, gpu::attention_kernels()), kExitFine);
  std::set<std::string> parts;
  double attention = 0;
  for (const Json& record : records()) {
    expect_timed(record);
    const std::string part = record["config"]["part"];
    parts.insert(part);
    EXPECT_EQ(record["timing"].contains("tflops_kept"), part.starts_with("attention"));
    EXPECT_EQ(record["metrics"].contains("gb_per_s"), part_bytes(part, {.heads = 1, .regions = 1}, 1, 1, 8) > 0)
        << part;
    if (part == "attention") attention = record["metrics"]["share_of_attention"];
  }
  EXPECT_EQ(parts, (std::set<std::string>{"pool", "map", "select", "lists", "draft", "reorder", "restore", "attention",
                                          "attention_gather"}));
  EXPECT_EQ(attention, 1.0);
  const std::size_t before = records().size();
  ASSERT_EQ(overhead(options, gpu::attention_kernels()), kExitFine);
  EXPECT_EQ(records().size(), before);
}

}  // namespace
}  // namespace draft
