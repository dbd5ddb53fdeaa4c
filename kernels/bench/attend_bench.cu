// How fast are the attention kernels, dense and block-sparse? Random normal Q, K and V, head_dim 128, bfloat16; lists
// by rule softmax; HunyuanVideo 768p's call (24 heads of 33 x 48 x 80 tokens and 256 text tokens) unless shapes are
// named. Usage: attend_bench [SHAPE ...] [SPARSITY ...] [Google Benchmark's options], SHAPE one of hunyuan_768p,
// wan_512p, wan_768p, SPARSITY 0.9 by default. Benchmarks attend/KERNEL/ORDER/dense and attend/KERNEL/ORDER/SPARSITY,
// with the shape's name behind if it is not the default one: 5 samples after 1 warm-up, with an L2 flush before each.
// tflops_kept counts 4 * queries * keys * head_dim for each block that is computed, those of text too.

#include <algorithm>
#include <memory>
#include <optional>
#include <sstream>

#include "kernels/bench/bench_lists.cuh"
#include "kernels/bench/bench_main.hpp"

namespace draft::gpu {
namespace {

constexpr int kWarmUps = 1, kSamples = 5;

/// What one benchmark measures; a sparsity of 0 is dense.
struct Case {
  Shape shape;
  AttentionKernel kernel;
  bool region_order;
  double sparsity;

  [[nodiscard]] std::string name() const {
    std::ostringstream text;
    text << "attend/" << kernel.name << (region_order ? "/region/" : "/token/");
    sparsity == 0.0 ? text << "dense" : text << sparsity;
    if (shape.name != kHunyuan768p.name) text << "/" << shape.name;
    return text.str();
  }
};

/// A call's tensors and lists on the device.
struct Inputs {
  explicit Inputs(const Shape& the_shape) : shape(the_shape) {}
  Shape shape;
  const Layout& layout = shape.layout;
  DeviceBuffer<__nv_bfloat16> q = normal_rows(layout, 1), k = normal_rows(layout, 2), v = normal_rows(layout, 3);
  DeviceBuffer<__nv_bfloat16> o{q.size()};
  DeviceBuffer<float> lse{static_cast<std::size_t>(layout.heads) * layout.tokens()};
  ListPipeline pipeline{layout};
  double sparsity = 0.0;  // of the lists; 0: none yet
};

class AttendBench {
 public:
  explicit AttendBench(const Device& device) : watch_(device.l2_bytes) {}

  /// Milliseconds of one call.
  float sample(benchmark::State& state, const Case& wanted) {
    prepare(wanted);
    const bool dense = wanted.sparsity == 0.0;
    const Layout& layout = inputs_->layout;
    const BlockLists lists = inputs_->pipeline.lists();
    const Attention call{.layout = layout,
                         .element = Element::bfloat16,
                         .scale = kScale,
                         .region_order = wanted.region_order,
                         .q = inputs_->q.data(),
                         .k = inputs_->k.data(),
                         .v = inputs_->v.data(),
                         .o = inputs_->o.data(),
                         .lse = inputs_->lse.data(),
                         .columns = dense ? nullptr : lists.columns,
                         .counts = dense ? nullptr : lists.counts,
                         .order = dense ? nullptr : lists.order};
    const std::size_t bytes = wanted.kernel.workspace(call);
    if (workspace_.size() < bytes) workspace_ = DeviceBuffer<std::uint8_t>(bytes);
    watch_.flush();
    watch_.begin();
    wanted.kernel.launch(call, {blas_, workspace_.data()}, watch_.stream());
    watch_.end();
    const float milliseconds = watch_.milliseconds();
    const double regions = layout.regions(), blocks = layout.blocks(), side = layout.region_tokens();
    const ListPipeline::Kept kept =
        dense ? ListPipeline::Kept{layout.heads * regions * regions, layout.heads * blocks * blocks}
              : inputs_->pipeline.kept();
    count_shape(state, wanted.shape);
    state.SetLabel(wanted.region_order ? "region order" : "token order");
    state.counters["sparsity"] = wanted.sparsity;
    state.counters["kept_blocks"] = kept.video;
    state.counters["kept_with_text"] = kept.all;
    state.counters["tflops_kept"] =
        4.0 * side * side * layout.head_dim * kept.all / static_cast<double>(milliseconds) * 1e-9;
    state.counters["l2_flush_mb"] = static_cast<double>(watch_.flush_bytes()) * 1e-6;
    return milliseconds;
  }

 private:
  /// The tensors and lists of this case, unless they are those of the last one.
  void prepare(const Case& wanted) {
    if (!inputs_.has_value() || inputs_->shape.name != wanted.shape.name) inputs_.emplace(wanted.shape);
    if (wanted.sparsity == 0.0 || wanted.sparsity == inputs_->sparsity) return;
    const ListPipeline& lists = inputs_->pipeline;
    lists.pipeline().enqueue(lists.call(Rule::softmax, wanted.sparsity, inputs_->q.data(), inputs_->k.data()),
                             watch_.stream());
    inputs_->sparsity = wanted.sparsity;
  }

  Stopwatch watch_;
  Blas blas_;
  DeviceBuffer<std::uint8_t> workspace_;
  std::optional<Inputs> inputs_;
};

/// Why the kernel cannot do this case on the device, or "".
std::string unsupported(const Case& wanted, const Device& device) {
  if (device.capability == 0) return "";
  Attention call;
  call.layout = wanted.shape.layout;
  call.region_order = wanted.region_order;
  return wanted.kernel.unsupported(call, device.capability);
}

void add_all(Benches& benches, const Device& device, const std::vector<std::string>& words) {
  std::vector<Shape> shapes;
  std::vector<double> sparsities;
  for (const std::string& word : words) {
    const auto named =
        std::find_if(kShapes.begin(), kShapes.end(), [&](const Shape& shape) { return shape.name == word; });
    if (named != kShapes.end()) {
      shapes.push_back(*named);
    } else {
      sparsities.push_back(sparsity_of(word));
    }
  }
  if (shapes.empty()) shapes.push_back(kHunyuan768p);
  if (sparsities.empty()) sparsities.push_back(0.9);
  sparsities.insert(sparsities.begin(), 0.0);
  const auto bench = std::make_shared<std::unique_ptr<AttendBench>>();  // made by the first sample
  for (const Shape& shape : shapes) {
    for (const AttentionKernel& kernel : attention_kernels()) {
      for (const bool region_order : {false, true}) {
        for (const double sparsity : sparsities) {
          const Case wanted{shape, kernel, region_order, sparsity};
          if (const std::string why = unsupported(wanted, device); !why.empty()) {
            Benches::skip(wanted.name(), why);
            continue;
          }
          benches.add(wanted.name(), kWarmUps, [=](benchmark::State& state) {
            if (*bench == nullptr) *bench = std::make_unique<AttendBench>(device);
            return (*bench)->sample(state, wanted);
          });
        }
      }
    }
  }
}

}  // namespace
}  // namespace draft::gpu

int main(int argc, char** argv) {
  return draft::gpu::run_benches(argc, argv, draft::gpu::kSamples, draft::gpu::add_all);
}
