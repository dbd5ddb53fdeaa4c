#pragma once
// Heads of a capture on the GPU: masks by the project's own pipeline, and runs of attention kernels on them.

#include <memory>
#include <string>
#include <vector>

#include "experiments/device/lists.hpp"
#include "experiments/verify/cases.hpp"
#include "harness/numbers/element.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/kernels.hpp"

namespace draft {

/// A case's masks of all heads of a group, on the device and on the host.
struct GroupMasks {
  gpu::Layout layout;
  std::unique_ptr<DeviceLists> lists;  // none where dense
  bool dense = false;
  std::vector<BlockMask> masks;                // [heads]
  std::vector<std::vector<Index>> row_counts;  // [heads][blocks], text included

  /// A block row of one head.
  [[nodiscard]] std::vector<Index> tokens(Index block) const;
};

/// One kernel's run on a case.
struct KernelRun {
  std::string unsupported;       // why it was not run; empty: it was
  std::vector<std::uint16_t> o;  // [heads, tokens, head_dim]
  std::vector<float> lse;        // [heads, tokens]
  std::size_t guard_bytes = 0;   // changed beside the outputs and the scratch
  std::size_t unwritten = 0;     // output numbers that are NaN: no input is
  bool repeats = false;          // a second run gave the same bits
};

class HeadGroup {
 public:
  /// Throws gpu::Error if the device has no room.
  HeadGroup(const Grid& grid, Index heads, Index head_dim, Element element, double scale);

  /// q, k and v of the head at a place of the group, [tokens, head_dim] each.
  void upload(Index place, const std::vector<std::uint16_t>& q, const std::vector<std::uint16_t>& k,
              const std::vector<std::uint16_t>& v);

  /// Throws gpu::Error if a draft map has a NaN, UsageError if the grid has too many blocks for the kernels.
  GroupMasks masks(const MaskChoice& the_case, std::uint64_t seed);

  /// Every output is poisoned before and guarded beside.
  KernelRun run(const gpu::AttentionKernel& kernel, const GroupMasks& masks, bool region_order);

 private:
  /// Writes the masks' lists; returns the masks of all heads.
  std::vector<BlockMask> keep_draft(const MaskChoice& the_case, const GroupMasks& masks);
  void reorder_for(const gpu::Layout& layout);

  Grid grid_;
  Index heads_, head_dim_;
  Element element_;
  float scale_;
  int capability_;
  gpu::Stream stream_;
  gpu::Blas blas_;
  gpu::DeviceBuffer<std::uint16_t> inputs_[3], reordered_[3];
  RegionSize reordered_region_{0, 0};
};

}  // namespace draft
