#pragma once
// From a block and a row r of it to the row's token. In token order the rows of a region are one frame width apart; in
// region order all tokens of a region are consecutive; tokens of a text block are consecutive in both.

#include "kernels/core/layout.hpp"

namespace draft::gpu {

/// n / divisor by one multiplication, exact while n * divisor < 2^32.
struct FastDivisor {
  unsigned divisor;
  unsigned reciprocal;  // ceil(2^32 / divisor); 0 for 1

  DRAFT_HOST_DEVICE explicit FastDivisor(int by)
      : divisor(static_cast<unsigned>(by)), reciprocal(by == 1 ? 0U : 0xffffffffU / divisor + 1) {}
  __device__ int quotient(int n) const {
    return reciprocal == 0 ? n : static_cast<int>(__umulhi(static_cast<unsigned>(n), reciprocal));
  }
};

/// The tokens of one block, in runs of `columns` consecutive ones.
struct BlockRows {
  int first;            // token of row 0
  int count;            // rows of the block
  int columns;          // length of a run; count if the whole block is one
  int stride;           // tokens from the start of one run to the next
  unsigned reciprocal;  // of columns, as in FastDivisor

  __device__ int token(int row) const {
    if (columns == count) return first + row;
    const int group = reciprocal == 0 ? row : static_cast<int>(__umulhi(static_cast<unsigned>(row), reciprocal));
    return first + group * stride + row - group * columns;
  }
};

/// Computes any block's BlockRows in few instructions, without a division. Kernels take it as an argument: its numbers
/// are then read from constant memory and take no registers.
struct BlockMap {
  int regions, text_first, tokens, region_tokens;
  int frame_tokens, height, width, region_height, region_width;
  FastDivisor per_frame, per_row;        // by the regions of a frame, and of a row of regions
  unsigned whole_columns, edge_columns;  // reciprocals of a region's width, and of the width at the grid's right edge
  bool region_order;

  DRAFT_HOST_DEVICE BlockMap(const Layout& layout, bool in_region_order)
      : regions(layout.regions()),
        text_first(layout.video()),
        tokens(layout.tokens()),
        region_tokens(layout.region_tokens()),
        frame_tokens(layout.frame_tokens()),
        height(layout.height),
        width(layout.width),
        region_height(layout.region_height),
        region_width(layout.region_width),
        per_frame(layout.region_rows() * layout.region_columns()),
        per_row(layout.region_columns()),
        whole_columns(FastDivisor(layout.region_width).reciprocal),
        edge_columns(FastDivisor(layout.width - (layout.region_columns() - 1) * layout.region_width).reciprocal),
        region_order(in_region_order) {}

  __device__ BlockRows rows(int block) const {
    BlockRows rows{.first = 0, .count = 0, .columns = 0, .stride = width, .reciprocal = 0};
    if (block >= regions) {
      rows.first = text_first + (block - regions) * region_tokens;
      rows.count = rows.columns = min(region_tokens, tokens - rows.first);
      return rows;
    }
    const int frame = per_frame.quotient(block);
    const int in_frame = block - frame * static_cast<int>(per_frame.divisor);
    const int strip = per_row.quotient(in_frame);
    const int column = (in_frame - strip * static_cast<int>(per_row.divisor)) * region_width;
    const int row = strip * region_height;
    const int high = min(region_height, height - row), wide = min(region_width, width - column);
    rows.first = frame * frame_tokens + row * width + column * (region_order ? high : 1);
    rows.count = high * wide;
    rows.columns = region_order ? rows.count : wide;
    rows.reciprocal = wide == region_width ? whole_columns : edge_columns;
    return rows;
  }
};

__device__ inline BlockRows rows_of_block(const Layout& layout, int block, bool region_order) {
  return BlockMap(layout, region_order).rows(block);
}

}  // namespace draft::gpu
