#pragma once
// The kept-block lists that the GPU benches time, and attend with.

#include <cuda_bf16.h>

#include <vector>

#include "kernels/bench/bench.cuh"

namespace draft::gpu {

/// Draft lists of random Q and K by average pooling.
class ListPipeline {
 public:
  explicit ListPipeline(const Layout& layout) : layout_(layout) {}

  [[nodiscard]] MaskCall call(Rule rule, double sparsity, const __nv_bfloat16* q, const __nv_bfloat16* k) const {
    return {.how = {Pool::average, rule, sparsity, kScale}, .q = q, .k = k, .lists = lists()};
  }
  [[nodiscard]] const MaskPipeline& pipeline() const { return pipeline_; }
  /// What calls write.
  [[nodiscard]] BlockLists lists() const { return {columns_.data(), counts_.data(), order_.data(), nullptr}; }

  /// Kept blocks of the lists that were written last, over all heads. Waits for the device; throws Error on a NaN
  /// score.
  struct Kept {
    double video;  // of video rows and video columns
    double all;    // text too
  };
  [[nodiscard]] Kept kept() const {
    pipeline_.require_fine();
    Kept kept{0.0, 0.0};
    const std::vector<std::int32_t> counts = counts_.download();
    for (std::size_t line = 0; line < counts.size(); ++line) {
      const bool text_row = static_cast<int>(line) % layout_.blocks() >= layout_.regions();
      kept.video += text_row ? 0 : counts[line] - layout_.text_blocks();
      kept.all += counts[line];
    }
    return kept;
  }

 private:
  Layout layout_;
  std::size_t lines_ = static_cast<std::size_t>(layout_.heads) * layout_.blocks();
  MaskPipeline pipeline_{layout_};
  DeviceBuffer<std::int32_t> counts_{lines_};
  DeviceBuffer<std::uint16_t> columns_{lines_ * layout_.blocks()}, order_{lines_};
};

}  // namespace draft::gpu
