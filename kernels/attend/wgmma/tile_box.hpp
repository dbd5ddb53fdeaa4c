#pragma once
// How TMA addresses a call's tensors: which box of which tensor map holds a block's tokens, and which rows of the
// loaded tile are tokens. Index arithmetic for host and device; no CUDA types, so that a test without a GPU covers it.
//
// A tile is 128 rows. Coordinates are (channel, x, y, z, head). TMA fills with zeros what lies outside a map.
// | order  | map | holds                            | coordinates                | a box         |
// | ------ | --- | -------------------------------- | -------------------------- | ------------- |
// | token  | 0   | video (dim, width, height, frames, heads) | column, row, frame | one region    |
// | token  | 1   | text (dim, text, 1, 1, heads)    | text token                 | 128 tokens    |
// | region | 0   | all tokens (dim, tokens, 1, 1, heads) | position              | 128 tokens    |
// | region | 1-4 | blocks of n < 128 tokens (dim, n, tokens, 1, heads) | 0, position | 128 tokens, of which n exist |
// Region order has a map for each size that a cut block can have (1 to 4), since a plain map would go on with the next
// block's tokens. In these maps axes x and y both step by one token: y is the block's first token, and x ends after n
// tokens, so that the rest of the tile is zeros. Nothing here depends on how far apart tokens and heads stand in
// memory: only the maps have the tensor's strides. With regions of fewer than 128 tokens map 0 is such a map too.

#include <array>
#include <cstdint>

#include "kernels/core/strided.hpp"

namespace draft::gpu {

inline constexpr int kTileRows = 128;
inline constexpr int kSlabChannels = 64;  // channels of a box: 128 bytes, the widest swizzle
inline constexpr int kTileMaps = 5;

/// Where a block lies. Row r of its tile is a token if r % pitch < columns and r / pitch < rows, where the pitch is
/// 2^pitch_log2(map).
struct TileBox {
  int map;
  int x, y, z;
  int rows, columns;
  int first;  // token, or position in region order, of row 0
};

/// A tensor map's extents, in elements. sizes[1] is 0 if no block uses the map.
struct MapShape {
  std::int64_t base;  // the element at coordinates 0
  std::array<std::uint64_t, 5> sizes;
  std::array<std::uint64_t, 4> strides;  // of axes 1 to 4
  std::array<std::uint32_t, 5> box;
};

/// "" or why a call of this layout cannot be cut into boxes.
inline const char* boxes_unsupported(const Layout& layout, bool region_order) {
  if (layout.region_tokens() == kTileRows) return "";
  if (!region_order) return "token order needs regions of exactly 128 tokens";
  return layout.region_tokens() < kTileRows ? "" : "regions may have 128 tokens at most";
}

/// The extents of the pooled rows' map, of a [heads, regions, head_dim] tensor: a box is 128 rows at (0, row, 0, 0).
MapShape pooled_shape(const Layout& layout);

/// The boxes of one call; boxes_unsupported() must be "".
class TileGrid {
 public:
  TileGrid() = default;
  TileGrid(const Layout& layout, bool region_order)
      : layout_(layout),
        region_order_(region_order),
        regions_(layout.regions()),
        region_columns_(layout.region_columns()),
        per_frame_(layout.region_rows() * layout.region_columns()),
        frame_tokens_(layout.frame_tokens()),
        video_(layout.video()),
        block_tokens_(layout.region_tokens()) {
    while (1 << pitch_log2_ < layout.region_width) ++pitch_log2_;
  }

  DRAFT_HOST_DEVICE TileBox box(int block) const {
    if (block >= regions_) {
      const int start = (block - regions_) * block_tokens_;
      const int count = smaller(block_tokens_, layout_.text - start);
      if (!region_order_) return {1, start, 0, 0, 1, count, video_ + start};
      // With 128-token regions the text's last block needs no cut map: it ends where the plain map ends.
      return in_region_order(count == block_tokens_ || block_tokens_ == kTileRows ? 0 : 4, count, video_ + start);
    }
    const int frame = block / per_frame_, in_frame = block % per_frame_;
    const int y = in_frame / region_columns_ * layout_.region_height;
    const int x = in_frame % region_columns_ * layout_.region_width;
    const int rows = smaller(layout_.region_height, layout_.height - y);
    const int columns = smaller(layout_.region_width, layout_.width - x);
    const int row_start = frame * frame_tokens_ + y * layout_.width;
    if (!region_order_) return {0, x, y, frame, rows, columns, row_start + x};
    const int map = (columns < layout_.region_width ? 1 : 0) + (rows < layout_.region_height ? 2 : 0);
    return in_region_order(map, rows * columns, row_start + x * rows);
  }

  /// log2 of how many tile rows one row of a map's box fills: the region's width, or all 128.
  DRAFT_HOST_DEVICE int pitch_log2(int map) const { return !region_order_ && map == 0 ? pitch_log2_ : 7; }
  /// Whether `row` of a tile is a token of a block of rows x columns tokens in this map.
  DRAFT_HOST_DEVICE bool holds(int map, int rows, int columns, int row) const {
    const int shift = pitch_log2(map);
    return (row & ((1 << shift) - 1)) < columns && row >> shift < rows;
  }
  /// The token, or position in region order, of tile row `row`, which must hold one.
  DRAFT_HOST_DEVICE int token(const TileBox& box, int row) const {
    const int shift = pitch_log2(box.map);
    return box.first + (row >> shift) * layout_.width + (row & ((1 << shift) - 1));
  }

  /// The extents of map `map` of a [heads, tokens, head_dim] tensor of these strides.
  [[nodiscard]] MapShape shape(int map, const Strides& strides) const;

 private:
  DRAFT_HOST_DEVICE static int smaller(int a, int b) { return a < b ? a : b; }
  DRAFT_HOST_DEVICE bool cut(int map) const { return map != 0 || block_tokens_ != kTileRows; }
  DRAFT_HOST_DEVICE TileBox in_region_order(int map, int count, int first) const {
    return cut(map) ? TileBox{map, 0, first, 0, 1, count, first} : TileBox{map, first, 0, 0, 1, count, first};
  }

  Layout layout_;
  bool region_order_ = false;
  int regions_ = 1, region_columns_ = 1, per_frame_ = 1, frame_tokens_ = 1, video_ = 1, block_tokens_ = 1;
  int pitch_log2_ = 0;
};

}  // namespace draft::gpu
