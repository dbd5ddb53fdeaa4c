// How long does building one call's block lists take, step by step? HunyuanVideo 768p, 129 frames: 24 heads of
// 33 x 48 x 80 tokens and 256 text tokens, head_dim 128, bfloat16, random normal Q and K.
// Usage: pipeline_bench [sparsity = 0.9]. Prints one JSON line: milliseconds, medians of 20 samples after 5
// warm-ups; each step is timed inside the whole sequence, `total` without events between the steps.

#include <cuda_bf16.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <sstream>
#include <vector>

#include "kernels/cuda_check.hpp"
#include "kernels/kernels.hpp"
#include "kernels/random.cuh"

namespace draft::gpu {
namespace {

constexpr int kWarmUps = 5, kSamples = 20;
constexpr Layout kHunyuan{.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256};
constexpr float kScale = 0.08838834764831845F;  // 1 / sqrt(128)

struct Buffers {
  std::size_t rows = static_cast<std::size_t>(kHunyuan.offset(kHunyuan.heads, 0));
  std::size_t pooled = static_cast<std::size_t>(kHunyuan.heads) * kHunyuan.regions() * kHunyuan.head_dim;
  std::size_t map = static_cast<std::size_t>(kHunyuan.map_offset(kHunyuan.heads));
  std::size_t lines = static_cast<std::size_t>(kHunyuan.heads) * kHunyuan.blocks();
  DeviceBuffer<__nv_bfloat16> q{rows}, k{rows};
  DeviceBuffer<float> pooled_q{pooled}, pooled_k{pooled}, logits{map}, probabilities{map};
  DeviceBuffer<std::uint8_t> workspace{workspace_bytes(kHunyuan)};
  DeviceBuffer<std::int32_t> status{static_cast<std::size_t>(kHunyuan.heads)}, counts{lines};
  DeviceBuffer<std::uint16_t> columns{lines * kHunyuan.blocks()}, order{lines};
};

constexpr std::array<const char*, 6> kSteps{"pool_q", "pool_k", "map", "softmax", "select", "lists"};
constexpr std::array<const char*, 4> kRuleNames{"logits", "softmax", "released", "row"};

class Pipeline {
 public:
  Pipeline(const Buffers& buffers, Rule rule, double sparsity) : b_(buffers), rule_(rule), sparsity_(sparsity) {}

  /// One pass; with `events`, events[i] before step i and events[6] behind the last.
  void run(const std::array<Event, 7>* events) const {
    const auto mark = [&](int step) {
      if (events != nullptr) (*events)[static_cast<std::size_t>(step)].record(stream_.get());
    };
    const bool after_softmax = rule_ == Rule::softmax || rule_ == Rule::released;
    const float* scores = after_softmax ? b_.probabilities.data() : b_.logits.data();
    mark(0);
    pool(kHunyuan, Element::bfloat16, Pool::average, b_.q.data(), b_.pooled_q.data(), stream_.get());
    mark(1);
    pool(kHunyuan, Element::bfloat16, Pool::average, b_.k.data(), b_.pooled_k.data(), stream_.get());
    mark(2);
    draft_logits(blas_, kHunyuan, b_.pooled_q.data(), b_.pooled_k.data(), b_.logits.data(), stream_.get());
    mark(3);
    if (after_softmax) softmax_rows(kHunyuan, kScale, b_.logits.data(), b_.probabilities.data(), stream_.get());
    mark(4);
    find_thresholds(kHunyuan, rule_, sparsity_, scores, b_.workspace.data(), b_.status.data(), stream_.get());
    mark(5);
    write_lists(kHunyuan, rule_, scores, b_.workspace.data(),
                {b_.columns.data(), b_.counts.data(), b_.order.data(), nullptr}, stream_.get());
    mark(6);
  }

  /// Medians of the steps, then of the whole.
  [[nodiscard]] std::vector<float> measure() const {
    std::vector<std::vector<float>> samples(kSteps.size() + 1);
    const std::array<Event, 7> events;
    const Event begin, end;
    for (int i = 0; i < kWarmUps; ++i) run(nullptr);
    for (int i = 0; i < kSamples; ++i) {
      run(&events);
      stream_.wait();
      for (std::size_t step = 0; step < kSteps.size(); ++step) {
        samples[step].push_back(events[step + 1].since(events[step]));
      }
      begin.record(stream_.get());
      run(nullptr);
      end.record(stream_.get());
      stream_.wait();
      samples.back().push_back(end.since(begin));
    }
    std::vector<float> medians;
    for (std::vector<float>& of_step : samples) {
      std::sort(of_step.begin(), of_step.end());
      medians.push_back((of_step[kSamples / 2 - 1] + of_step[kSamples / 2]) / 2.0F);
    }
    return medians;
  }

 private:
  const Buffers& b_;
  Rule rule_;
  double sparsity_;
  Blas blas_;
  Stream stream_;
};

/// Kept video blocks over all heads, and a failure if a score was NaN.
long long kept_blocks(const Buffers& buffers) {
  for (const std::int32_t status : buffers.status.download()) {
    if (status != kFine) fail("find_thresholds", "a score is NaN");
  }
  const std::vector<std::int32_t> counts = buffers.counts.download();
  long long kept = 0;
  for (std::size_t line = 0; line < counts.size(); ++line) {
    const bool text_row = static_cast<int>(line) % kHunyuan.blocks() >= kHunyuan.regions();
    if (!text_row) kept += counts[line] - kHunyuan.text_blocks();
  }
  return kept;
}

void bench(double sparsity) {
  const Buffers buffers;
  fill_normal<<<4096, 256>>>(buffers.q.data(), static_cast<std::int64_t>(buffers.rows), 1);
  fill_normal<<<4096, 256>>>(buffers.k.data(), static_cast<std::int64_t>(buffers.rows), 2);
  check_launch("fill_normal");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  std::ostringstream line;
  line << "{\"bench\":\"pipeline\",\"device\":\"" << device.name << "\",\"heads\":" << kHunyuan.heads
       << ",\"tokens\":" << kHunyuan.tokens() << ",\"head_dim\":" << kHunyuan.head_dim
       << ",\"regions\":" << kHunyuan.regions() << ",\"sparsity\":" << sparsity << ",\"samples\":" << kSamples
       << ",\"unit\":\"ms\"";
  for (int rule = 0; rule < static_cast<int>(kRuleNames.size()); ++rule) {
    const Pipeline pipeline(buffers, static_cast<Rule>(rule), sparsity);
    const std::vector<float> medians = pipeline.measure();
    line << ",\"" << kRuleNames[static_cast<std::size_t>(rule)] << "\":{";
    for (std::size_t step = 0; step < kSteps.size(); ++step) {
      line << "\"" << kSteps[step] << "\":" << medians[step] << ",";
    }
    line << "\"total\":" << medians.back() << ",\"kept_blocks\":" << kept_blocks(buffers) << "}";
  }
  std::printf("%s}\n", line.str().c_str());
}

}  // namespace
}  // namespace draft::gpu

int main(int argc, char** argv) {
  try {
    draft::gpu::bench(argc > 1 ? std::atof(argv[1]) : 0.9);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "pipeline_bench: %s\n", error.what());
    return 1;
  }
}
