#pragma once
// Heads of a capture on the GPU, as one call: masks by the project's own pipeline, and runs of attention kernels on
// them.

#include <memory>
#include <string>
#include <vector>

#include "experiments/device/call.hpp"
#include "experiments/verify/cases.hpp"
#include "harness/numbers/element.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/kernels.hpp"

namespace draft {

/// A case's masks of all heads of a group, on the device and on the host.
struct GroupMasks {
  gpu::Layout layout;
  std::unique_ptr<DeviceLists> lists;          // none where dense
  std::vector<BlockMask> masks;                // [heads]
  std::vector<std::vector<Index>> row_counts;  // [heads][blocks], text included
  std::vector<PooledRows> pooled;              // [heads], of a remainder; empty: none

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

/// Makes the masks of all heads of the call, over the choice's regions, which become the call's. Throws gpu::Error if a
/// draft map has a NaN, UsageError if the grid has too many blocks for the kernels.
GroupMasks group_masks(DeviceCall& call, const MaskChoice& choice, std::uint64_t seed);

/// A kernel on the call, twice. Every output is poisoned before and guarded beside.
KernelRun guarded_run(const DeviceCall& call, const gpu::AttentionKernel& kernel, const GroupMasks& masks,
                      bool region_order);

}  // namespace draft
