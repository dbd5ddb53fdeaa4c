#pragma once
// From Q and K to the kept-block lists, step by step, for the GPU benches.

#include <cuda_bf16.h>

#include <functional>
#include <vector>

#include "kernels/bench.cuh"

namespace draft::gpu {

/// From Q and K to the kept-block lists, as steps on a stream.
class ListPipeline {
 public:
  using Step = std::function<void(cudaStream_t)>;

  explicit ListPipeline(const Layout& layout) : layout_(layout) {}

  /// Of the steps, in their order.
  static std::vector<const char*> step_names() {
    return {"pool_q", "pool_k", "map", "select", "lists"};
  }
  /// What they enqueue, for Q and K of [heads, tokens, head_dim]. They use this object's buffers.
  [[nodiscard]] std::vector<Step> steps(Rule rule, double sparsity, const __nv_bfloat16* q,
                                        const __nv_bfloat16* k) const {
    const float* scores = scores_.data();
    const auto pool_rows = [this](const __nv_bfloat16* rows, const DeviceBuffer<float>& pooled) -> Step {
      return [this, rows, to = pooled.data()](cudaStream_t stream) {
        pool(layout_, Element::bfloat16, Pool::average, rows, to, stream);
      };
    };
    std::vector<Step> all{
        pool_rows(q, q_),
        pool_rows(k, k_),
        [=, this](cudaStream_t s) {
          if (reads_probabilities(rule)) {
            draft_probabilities(layout_, kScale, q_.data(), k_.data(), scores_.data(), s);
          } else {
            draft_logits(layout_, q_.data(), k_.data(), scores_.data(), s);
          }
        },
        [=, this](cudaStream_t s) {
          find_thresholds(layout_, rule, sparsity, scores, workspace_.data(), status_.data(), s);
        },
        [=, this](cudaStream_t s) { write_lists(layout_, rule, scores, workspace_.data(), lists(), s); }};
    return all;
  }
  /// What the last step writes.
  [[nodiscard]] BlockLists lists() const { return {columns_.data(), counts_.data(), order_.data(), nullptr}; }

  /// Kept blocks of the lists that were written last, over all heads. Waits for the device; throws Error on a NaN
  /// score.
  struct Kept {
    double video;  // of video rows and video columns
    double all;    // text too
  };
  [[nodiscard]] Kept kept() const {
    for (const std::int32_t status : status_.download()) {
      if (status != kFine) fail("find_thresholds", "a score is NaN");
    }
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
  static bool reads_probabilities(Rule rule) { return rule == Rule::softmax || rule == Rule::released; }
  Layout layout_;
  std::size_t pooled_ = static_cast<std::size_t>(layout_.heads) * layout_.regions() * layout_.head_dim;
  std::size_t map_ = static_cast<std::size_t>(layout_.map_offset(layout_.heads));
  std::size_t lines_ = static_cast<std::size_t>(layout_.heads) * layout_.blocks();
  DeviceBuffer<float> q_{pooled_}, k_{pooled_}, scores_{map_};
  DeviceBuffer<std::uint8_t> workspace_{workspace_bytes(layout_)};
  DeviceBuffer<std::int32_t> status_{static_cast<std::size_t>(layout_.heads)}, counts_{lines_};
  DeviceBuffer<std::uint16_t> columns_{lines_ * layout_.blocks()}, order_{lines_};
};

}  // namespace draft::gpu
