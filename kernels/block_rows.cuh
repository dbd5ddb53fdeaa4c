#pragma once
// Which token is row r of a block: a region's tokens stand in token order a frame row apart, in region order
// side by side; text blocks stand side by side in both.

#include "kernels/layout.hpp"

namespace draft::gpu {

struct BlockRows {
  int first;           // token of row 0
  int count;           // rows of the block
  int columns;         // rows that stand side by side
  int stride;          // tokens from one such group to the next
  unsigned reciprocal; // ceil(2^32 / columns): __umulhi(r, reciprocal) = r / columns while r * columns < 2^32

  __device__ int token(int row) const {
    if (columns == count) return first + row;
    if (columns == 1) return first + row * stride;  // its reciprocal is 2^32
    const int group = static_cast<int>(__umulhi(static_cast<unsigned>(row), reciprocal));
    return first + group * stride + row - group * columns;
  }
};

__device__ inline BlockRows rows_of_block(const Layout& layout, int block, bool region_order) {
  BlockRows rows{.first = 0, .count = 0, .columns = 0, .stride = layout.width, .reciprocal = 0};
  if (block >= layout.regions()) {
    const int done = (block - layout.regions()) * layout.region_tokens();
    rows.first = layout.video() + done;
    rows.count = min(layout.region_tokens(), layout.text - done);
    rows.columns = rows.count;
  } else {
    const Box box = layout.box(block);
    rows.first = region_order ? layout.position_of(box.first) : box.first;
    rows.count = box.rows * box.columns;
    rows.columns = region_order ? rows.count : box.columns;
  }
  rows.reciprocal = 0xffffffffU / static_cast<unsigned>(rows.columns) + 1;
  return rows;
}

}  // namespace draft::gpu
