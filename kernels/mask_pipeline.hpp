#pragma once
// From Q and K to the kept-block lists: the functions of masks.hpp as one call, or one after the other as steps.
// Conventions: kernels.hpp.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/cuda_check.hpp"
#include "kernels/masks.hpp"

namespace draft::gpu {

/// What decides which blocks are kept.
struct DraftRule {
  Pool pool = Pool::average;
  Rule rule = Rule::softmax;
  double sparsity = 0.9;  // 0 <= sparsity < 1
  float scale = 0.0F;     // softmax scale; of rules that read A_draft
};

/// One call of a pipeline.
struct MaskCall {
  Element element = Element::bfloat16;
  DraftRule how;
  const void* q = nullptr;  // [heads, tokens, head_dim], token order
  const void* k = nullptr;  // [heads, tokens, head_dim], token order
  BlockLists lists{};       // as write_lists; written
};

/// The scratch memory and the side stream for calls of one layout, one call at a time. Not to be moved: steps point
/// into it.
///
/// In large calls the heads go in two groups: while the first one's map is made and cut on the side stream, the
/// caller's stream already pools the second, which is all reading of device memory.
class MaskPipeline {
 public:
  /// `first_heads`: heads of the first group, 0 for as many as suit the layout, all of them for one group. Throws
  /// std::invalid_argument if the layout is not valid, Error if the device has no room.
  explicit MaskPipeline(const Layout& layout, int first_heads = 0);
  MaskPipeline(const MaskPipeline&) = delete;
  MaskPipeline& operator=(const MaskPipeline&) = delete;

  /// Enqueues everything; `stream` goes on when all is done. Throws std::invalid_argument or Error.
  void enqueue(const MaskCall& call, cudaStream_t stream) const;

  /// The same for all heads at once, to be looked at one by one: "pool_q", "pool_k", "map" (A_draft or S~, as the rule
  /// wants), "select", "lists", in this order and on one stream. Enqueueing throws as enqueue().
  struct Step {
    const char* name;
    std::function<void(cudaStream_t)> enqueue;
  };
  [[nodiscard]] std::vector<Step> steps(const MaskCall& call) const;

  /// Of each head, what the last selection found: Status. Waits for the device.
  [[nodiscard]] std::vector<std::int32_t> status() const { return status_.download(); }
  /// Waits for the device; throws Error if the last selection met a NaN.
  void require_fine() const;

  [[nodiscard]] int first_heads() const { return first_heads_; }

 private:
  /// Some heads of a call, and the scratch memory of their selection.
  struct Group {
    int first;
    Layout layout;
    std::uint8_t* workspace;
  };
  [[nodiscard]] Group group(int first, int heads, const DeviceBuffer<std::uint8_t>& workspace) const;
  void pool_rows(const MaskCall& call, const Group& group, const void* rows, const DeviceBuffer<float>& pooled,
                 cudaStream_t stream) const;
  void make_map(const MaskCall& call, const Group& group, cudaStream_t stream) const;
  void select(const MaskCall& call, const Group& group, cudaStream_t stream) const;
  void write(const MaskCall& call, const Group& group, cudaStream_t stream) const;
  void pool_group(const MaskCall& call, const Group& group, cudaStream_t stream) const;
  void cut_group(const MaskCall& call, const Group& group, cudaStream_t stream) const;
  [[nodiscard]] float* scores_of(const Group& group) const;

  Layout layout_;
  int first_heads_;
  DeviceBuffer<float> q_, k_;   // pooled, [heads, regions, head_dim]
  DeviceBuffer<float> scores_;  // [heads, regions, regions], a group behind the other on 16 bytes
  DeviceBuffer<std::uint8_t> workspace_, side_workspace_;
  DeviceBuffer<std::int32_t> status_;
  Stream side_{Stream::Priority::highest};
  Event pooled_, cut_;
};

}  // namespace draft::gpu
