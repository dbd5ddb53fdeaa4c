// How long does building one call's block lists take, step by step? HunyuanVideo 768p, 129 frames: 24 heads of
// 33 x 48 x 80 tokens and 256 text tokens, head_dim 128, bfloat16, random normal Q and K.
// Usage: pipeline_bench [SPARSITY = 0.9] [Google Benchmark's options]. Benchmarks pipeline/RULE/STEP and
// pipeline/RULE/total: 20 samples after 5 warm-ups. A sample is one pass over all steps after an L2 flush; a step is
// timed inside that pass and finds in L2 what the steps before it left there, as in use.

#include <array>
#include <memory>

#include "kernels/bench/bench_lists.cuh"
#include "kernels/bench/bench_main.hpp"

namespace draft::gpu {
namespace {

constexpr int kWarmUps = 5, kSamples = 20;
constexpr std::array<const char*, 4> kRuleNames{"logits", "softmax", "released", "row"};
constexpr std::array<const char*, 5> kSteps{"pool_q", "pool_k", "map", "select", "lists"};  // of MaskPipeline

class PipelineBench {
 public:
  explicit PipelineBench(const Device& device) : watch_(device.l2_bytes) {}

  /// Milliseconds of steps [first, last) within one pass.
  float sample(benchmark::State& state, Rule rule, double sparsity, std::size_t first, std::size_t last) const {
    const auto steps = lists_.pipeline().steps(lists_.call(rule, sparsity, q_.data(), k_.data()));
    watch_.flush();
    for (std::size_t step = 0; step < steps.size(); ++step) {
      if (step == first) watch_.begin();
      steps[step].enqueue(watch_.stream());
      if (step + 1 == last) watch_.end();
    }
    const float milliseconds = watch_.milliseconds();
    count_shape(state, kHunyuan768p);
    state.counters["sparsity"] = sparsity;
    state.counters["kept_blocks"] = lists_.kept().video;
    state.counters["l2_flush_mb"] = static_cast<double>(watch_.flush_bytes()) * 1e-6;
    return milliseconds;
  }

 private:
  Stopwatch watch_;
  ListPipeline lists_{kHunyuan768p.layout};
  DeviceBuffer<__nv_bfloat16> q_ = normal_rows(kHunyuan768p.layout, 1), k_ = normal_rows(kHunyuan768p.layout, 2);
};

void add_all(Benches& benches, const Device& device, const std::vector<std::string>& words) {
  if (words.size() > 1) throw std::invalid_argument("wanted one sparsity, found '" + words[1] + "' as well");
  const double sparsity = words.empty() ? 0.9 : sparsity_of(words[0]);
  const auto bench = std::make_shared<std::unique_ptr<PipelineBench>>();  // made by the first sample
  for (std::size_t i = 0; i < kRuleNames.size(); ++i) {
    const auto rule = static_cast<Rule>(i);
    const auto add = [&](const char* name, std::size_t first, std::size_t last) {
      benches.add(std::string("pipeline/") + kRuleNames[i] + "/" + name, kWarmUps, [=](benchmark::State& state) {
        if (*bench == nullptr) *bench = std::make_unique<PipelineBench>(device);
        return (*bench)->sample(state, rule, sparsity, first, last);
      });
    };
    for (std::size_t step = 0; step < kSteps.size(); ++step) add(kSteps[step], step, step + 1);
    add("total", 0, kSteps.size());
  }
}

}  // namespace
}  // namespace draft::gpu

int main(int argc, char** argv) {
  return draft::gpu::run_benches(argc, argv, draft::gpu::kSamples, draft::gpu::add_all);
}
