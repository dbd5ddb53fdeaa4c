#pragma once
// From Q and K to the kept-block lists: the functions of draft.hpp in one call, or as separate steps that can be timed.
// Conventions: kernels.hpp.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/core/cuda_check.hpp"
#include "kernels/draft/draft.hpp"

namespace draft::gpu {

/// How blocks are chosen.
struct DraftRule {
  Pool pool = Pool::average;
  Rule rule = Rule::softmax;
  double sparsity = 0.9;  // 0 <= sparsity < 1
  float scale = 0.0F;     // softmax scale, for rules that read A_draft
};

/// One call of a pipeline.
struct MaskCall {
  Element element = Element::bfloat16;
  DraftRule how;
  const void* q = nullptr;  // [heads, tokens, head_dim], token order
  const void* k = nullptr;  // [heads, tokens, head_dim], token order
  BlockLists lists;         // output, as of write_lists
};

/// Owns the scratch memory for calls of one layout, one call at a time. Cannot be moved, because steps point into it.
class MaskPipeline {
 public:
  /// Throws std::invalid_argument if the layout is not valid, Error if the device has no room.
  explicit MaskPipeline(const Layout& layout);
  MaskPipeline(const MaskPipeline&) = delete;
  MaskPipeline& operator=(const MaskPipeline&) = delete;

  /// The call's steps, to be enqueued in this order on one stream: "pool" (of Q and K), "map" (A_draft or S~, whichever
  /// the rule reads), "select", "lists". Enqueueing throws std::invalid_argument or Error.
  struct Step {
    const char* name;
    std::function<void(cudaStream_t)> enqueue;
  };
  [[nodiscard]] std::vector<Step> steps(const MaskCall& call) const;

  /// Enqueues all steps.
  void enqueue(const MaskCall& call, cudaStream_t stream) const;

  /// Each head's Status after the last selection, [heads]. Waits for the device.
  [[nodiscard]] std::vector<std::int32_t> status() const { return status_.download(); }
  /// Waits for the device; throws Error if the last selection met a NaN.
  void require_fine() const;

 private:
  void make_map(const DraftRule& how, cudaStream_t stream) const;

  Layout layout_;
  DeviceBuffer<float> q_, k_;   // pooled, [heads, regions, head_dim]
  DeviceBuffer<float> scores_;  // [heads, regions, regions]
  DeviceBuffer<std::uint8_t> workspace_;
  DeviceBuffer<std::int32_t> status_;
};

}  // namespace draft::gpu
