#pragma once
// The pooled remainder: what attention kernels read of it beside the pooled rows. A block that a mask drops from a
// block row stays in the row's softmax as one key, the mean of its keys, that has the weight of all its tokens and the
// mean of their values (the tail of Sol-Attn, arXiv 2607.24027). To a kernel pooled rows are further tiles of keys.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/attend/attention.hpp"

namespace draft::gpu {

inline constexpr int kPooledTile = 128;  // pooled rows whose bits are one uint4

/// 128 regions at a time.
DRAFT_HOST_DEVICE inline int pooled_tiles(const Layout& layout) {
  return (layout.regions() + kPooledTile - 1) / kPooledTile;
}

/// Which blocks a row drops, and what their sizes add to their logits: ln(rows * columns) / scale, so that scale times
/// the sum is the logit of a key that stands for the whole region. It is `whole` for a region that no edge cuts; the
/// grid's right edge adds `narrow` and its lower edge `low`, since the logarithm of a product is a sum. Bit c % 32 of
/// word c / 32 of a tile's bits is region c's, 0 past the last region.
struct DroppedBlocks {
  uint4* bits;         // [heads, regions, pooled tiles]: 1 if the row drops the region
  uint4* narrow_bits;  // [pooled tiles]: 1 at the right edge, if that cuts regions
  uint4* low_bits;     // [pooled tiles]: 1 at the lower edge, if that cuts regions
  float whole, narrow, low;
  bool ragged;  // an edge cuts regions; otherwise the last two kinds of bits are 0
};

/// Bytes of scratch; 0 for a call without a remainder.
std::size_t dropped_blocks_workspace(const Attention& call);
/// Enqueues the writing of `call`'s DroppedBlocks to `workspace`, aligned to 16 bytes.
DroppedBlocks write_dropped_blocks(const Attention& call, void* workspace, cudaStream_t stream);

/// The same as lists, for kernels that gather their keys row by row: a tile then holds dropped regions alone. An entry
/// is the region, and kNarrowRegion and kLowRegion if an edge cuts it.
struct DroppedLists {
  std::uint16_t* regions;  // [heads, regions, length]: a row's dropped regions, rising
  std::int32_t* counts;    // [heads, regions]
  int length;              // of a row's list: regions, rounded up to whole tiles of 64
  float whole, narrow, low;
};
inline constexpr int kNarrowRegion = 1 << 14, kLowRegion = 1 << 15;
static_assert(kMostBlocks <= kNarrowRegion);

/// Bytes of scratch; 0 for a call without a remainder.
std::size_t dropped_lists_workspace(const Attention& call);
/// Enqueues the writing of `call`'s DroppedLists to `workspace`, aligned to 16 bytes.
DroppedLists write_dropped_lists(const Attention& call, void* workspace, cudaStream_t stream);

}  // namespace draft::gpu
