#pragma once
// The order in which a launch gives out the block rows of a sparse call. Index arithmetic for host and device.

#include "kernels/core/layout.hpp"

namespace draft::gpu {

/// Block rows go head by head, so that all CTAs read one head's K and V and find them in L2, and within a head longest
/// first. But the `ahead` longest of every head come before all others: a text row keeps all of its head's blocks and
/// takes about as long as all CTAs together take for a head's other rows, so that those of the last heads would outlast
/// everything else.
struct TileOrder {
  int heads, blocks, ahead;

  /// Of a call with lists: its text rows, and one more that may be long.
  static TileOrder of_lists(const Layout& layout) {
    const int blocks = layout.blocks(), long_rows = layout.text_blocks() + 1;
    return {layout.heads, blocks, long_rows < blocks ? long_rows : blocks};
  }
  static TileOrder of_dense(const Layout& layout) { return {layout.heads, layout.blocks(), 0}; }

  /// The work tile at a position: head * blocks + place in the head's order of rows.
  DRAFT_HOST_DEVICE int operator()(int position) const {
    const int first = heads * ahead;
    if (position < first) return position % heads * blocks + position / heads;
    const int rest = position - first, in_head = blocks - ahead;
    return rest / in_head * blocks + ahead + rest % in_head;
  }
};

}  // namespace draft::gpu
