// What the host decides for attend_wgmma, and the arithmetic that its device code shares with it: boxes, tensor map
// extents, matrix descriptors, the swizzle, and which calls it takes. Needs no GPU.

#include "kernels/attend/wgmma/kernel.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "kernels/attend/wgmma/tile_box.hpp"
#include "kernels/attend/wgmma/tile_order.hpp"
#include "kernels/ptx/wgmma_descriptor.hpp"

namespace draft::gpu {
namespace {

std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (const auto& [rows, columns] : {std::pair{8, 16}, {16, 8}, {4, 32}, {1, 128}, {128, 1}, {8, 8}, {5, 3}, {1, 1}}) {
    for (const int height : {1, 7, 8, 9, 33}) {
      for (const int width : {1, 15, 16, 17, 52}) {
        for (const int text : {0, 1, 77, 128, 129, 256}) {
          all.push_back({.heads = 3,
                         .frames = 2,
                         .height = height,
                         .width = width,
                         .text = text,
                         .head_dim = 64,
                         .region_height = rows,
                         .region_width = columns});
        }
      }
    }
  }
  return all;
}

/// The tokens (region order: positions) of a block, by Layout alone.
std::set<int> tokens_of(const Layout& layout, bool region_order, int block) {
  std::set<int> tokens;
  if (block >= layout.regions()) {
    const int start = (block - layout.regions()) * layout.region_tokens();
    for (int t = start; t < std::min(start + layout.region_tokens(), layout.text); ++t)
      tokens.insert(layout.video() + t);
    return tokens;
  }
  const Box box = layout.box(block);
  for (int row = 0; row < box.rows; ++row) {
    for (int column = 0; column < box.columns; ++column) {
      const int token = box.first + row * layout.width + column;
      tokens.insert(region_order ? layout.position_of(token) : token);
    }
  }
  return tokens;
}

/// The strides that maps are tried with: a contiguous tensor's, [tokens, heads, head_dim], and rows with gaps.
std::vector<Strides> strides_for(const Layout& layout) {
  const std::int64_t dim = layout.head_dim;
  return {Strides::contiguous(layout),
          {dim, layout.heads * dim},
          {3 * dim, 3 * layout.heads * dim},
          {layout.tokens() * (dim + 8) + 40, dim + 8}};
}

/// Computes by hand which elements TMA would copy for `grid`'s boxes of a tensor of these strides. Counts the blocks
/// whose tile does not hold exactly their tokens, or holds one from another address or in another row than the kernel
/// assumes.
int wrong_blocks(const Layout& layout, bool region_order, const TileGrid& grid, const Strides& said,
                 const Strides& strides) {
  int wrong = 0;
  for (int block = 0; block < layout.blocks(); ++block) {
    const TileBox box = grid.box(block);
    const MapShape shape = grid.shape(box.map, said);
    const int head = block % layout.heads;
    std::set<int> wanted = tokens_of(layout, region_order, block);
    bool good = shape.box[0] == kSlabChannels && shape.box[1] * shape.box[2] * shape.box[3] * shape.box[4] == kTileRows;
    for (unsigned row = 0; row < kTileRows && good; ++row) {
      const std::uint64_t at[] = {0, box.x + row % shape.box[1], box.y + row / shape.box[1] % shape.box[2],
                                  static_cast<std::uint64_t>(box.z), static_cast<std::uint64_t>(head)};
      bool inside = true;
      std::int64_t element = shape.base;
      for (std::size_t axis = 1; axis < 5; ++axis) {
        inside &= at[axis] < shape.sizes[axis];
        element += static_cast<std::int64_t>(at[axis] * shape.strides[axis - 1]);
      }
      good = inside == grid.holds(box.map, box.rows, box.columns, static_cast<int>(row));
      if (!inside || !good) continue;
      const int token = grid.token(box, static_cast<int>(row));
      good = wanted.erase(token) == 1 && element == strides.offset(head, token);
    }
    wrong += !good || !wanted.empty();
  }
  return wrong;
}
int wrong_blocks(const Layout& layout, bool region_order, const TileGrid& grid) {
  int wrong = 0;
  for (const Strides& strides : strides_for(layout)) {
    wrong += wrong_blocks(layout, region_order, grid, strides, strides);
  }
  return wrong;
}

// Given regions that divide the grid and that do not, texts of any length and tensors of any strides, claim: every
// block's tile holds each of the block's tokens once, and zeros elsewhere.
TEST(TileBoxes, HoldTheirBlocksTokens) {
  int tried = 0;
  for (const Layout& layout : layouts()) {
    for (const bool region_order : {false, true}) {
      if (*boxes_unsupported(layout, region_order) != '\0') continue;
      ++tried;
      ASSERT_EQ(wrong_blocks(layout, region_order, TileGrid(layout, region_order)), 0)
          << layout.height << " x " << layout.width << ", text " << layout.text << ", regions " << layout.region_height
          << " x " << layout.region_width << (region_order ? ", region order" : "");
    }
  }
  EXPECT_EQ(tried, 5 * 5 * 6 * (5 + 8));  // five shapes of 128 tokens; all eight in region order
}

// Negative control: the check finds boxes of a grid one column wider wrong, those of 4 x 32 instead of 8 x 16 regions,
// and those of another tensor's strides.
TEST(TileBoxes, TheCheckCanFail) {
  const Layout layout{.heads = 2, .frames = 2, .height = 9, .width = 17, .text = 5, .head_dim = 64};
  Layout wider = layout, flat = layout;
  wider.width = 18;
  flat.region_height = 4;
  flat.region_width = 32;
  for (const bool region_order : {false, true}) {
    EXPECT_EQ(wrong_blocks(layout, region_order, TileGrid(layout, region_order)), 0);
    EXPECT_GT(wrong_blocks(layout, region_order, TileGrid(wider, region_order)), 0);
    EXPECT_GT(wrong_blocks(layout, region_order, TileGrid(flat, region_order)), 0);
    const std::vector<Strides> all = strides_for(layout);
    for (std::size_t i = 0; i < all.size(); ++i) {
      EXPECT_GT(wrong_blocks(layout, region_order, TileGrid(layout, region_order), all[i], all[(i + 1) % 4]), 0) << i;
    }
  }
}

// Claim: a box of the pooled rows' map at row 128 t holds regions 128 t to 128 t + 127 of its head, and nothing past
// the head's last.
TEST(TileBoxes, OfPooledRowsHoldTheirHeadsRegions) {
  for (const Layout& layout : layouts()) {
    const MapShape shape = pooled_shape(layout);
    ASSERT_EQ(shape.box[1] * shape.box[2] * shape.box[3] * shape.box[4], static_cast<unsigned>(kTileRows));
    ASSERT_EQ(shape.box[1], static_cast<unsigned>(kTileRows));
    EXPECT_EQ(shape.base, 0);
    EXPECT_EQ(shape.sizes[1], static_cast<std::uint64_t>(layout.regions()));
    EXPECT_EQ(shape.sizes[4], static_cast<std::uint64_t>(layout.heads));
    EXPECT_EQ(shape.strides[0], static_cast<std::uint64_t>(layout.head_dim));
    EXPECT_EQ(shape.strides[3], static_cast<std::uint64_t>(layout.regions()) * shape.strides[0]);
  }
}

/// Whether all maps of a tensor of these strides keep the driver's rules, which the next test has.
bool keeps_the_drivers_rules(const TileGrid& grid, const Strides& strides) {
  bool good = true;
  for (int map = 0; map < kTileMaps; ++map) {
    const MapShape shape = grid.shape(map, strides);
    good &= shape.base * 2 % 16 == 0;
    for (const std::uint64_t size : shape.sizes) good &= size <= std::uint64_t{1} << 32;
    for (const std::uint32_t box : shape.box) good &= box <= 256U;
    for (const std::uint64_t stride : shape.strides) {
      good &= stride * 2 % 16 == 0 && stride * 2 < std::uint64_t{1} << 40 && stride > 0;
    }
  }
  return good;
}

// The driver's rules for tensor maps (cuTensorMapEncodeTiled): strides multiples of 16 bytes below 2^40, sizes up to
// 2^32, boxes up to 256.
TEST(TileBoxes, KeepTheDriversRules) {
  std::vector<Layout> all = layouts();
  all.push_back({.heads = 65535, .frames = 99, .height = 88, .width = 160, .text = 4096, .head_dim = 128});
  for (const Layout& layout : all) {
    for (const bool region_order : {false, true}) {
      if (*boxes_unsupported(layout, region_order) != '\0') continue;
      for (const Strides& strides : strides_for(layout)) {
        if (strides.token * layout.tokens() >= std::int64_t{1} << 39) {  // [tokens, heads, head_dim] of the last layout
          EXPECT_THROW(require_strides("q", layout, strides), std::invalid_argument);
          continue;
        }
        EXPECT_TRUE(keeps_the_drivers_rules(TileGrid(layout, region_order), strides));
      }
    }
  }
}

// Claim: the largest strides that require_strides lets through keep them, and one step more does not.
TEST(TileBoxes, OfTheLargestStridesKeepTheDriversRules) {
  const Layout layout{.heads = 2, .frames = 1, .height = 16, .width = 32, .text = 128, .head_dim = 64};  // 640 tokens
  const std::int64_t most = std::int64_t{1} << 39;                                                       // elements
  for (const Strides& strides : {Strides{most - 8, 64}, Strides{64, most / 640 / 8 * 8}}) {
    EXPECT_NO_THROW(require_strides("q", layout, strides));
    EXPECT_TRUE(keeps_the_drivers_rules(TileGrid(layout, false), strides));
  }
  EXPECT_FALSE(keeps_the_drivers_rules(TileGrid(layout, false), {most, 64}));
  EXPECT_THROW(require_strides("q", layout, {most, 64}), std::invalid_argument);
  EXPECT_THROW(require_strides("q", layout, {64, most / 640 / 8 * 8 + 8}), std::invalid_argument);
}

TEST(TileBoxes, Need64BitsOnlyInTheMaps) {
  const Layout large{.heads = 48, .frames = 132, .height = 48, .width = 80, .text = 256};  // 3.1e9 elements
  for (const bool region_order : {false, true}) {
    const TileGrid grid(large, region_order);
    const TileBox box = grid.box(large.blocks() - 1);
    const MapShape shape = grid.shape(box.map, Strides::contiguous(large));
    EXPECT_EQ(shape.base + static_cast<std::int64_t>(box.x * shape.strides[0] + 47 * shape.strides[3]),
              48LL * large.tokens() * 128 - 128LL * 128);
  }
}

TEST(Descriptors, HaveTheirFieldsInPlace) {
  const std::uint64_t found = matrix_descriptor(0x2a400, kSlabBytes, kEightRows);
  EXPECT_EQ(found & 0x3fff, 0x2a400U / 16);
  EXPECT_EQ(found >> 16 & 0x3fff, 16384U / 16);
  EXPECT_EQ(found >> 32 & 0x3fff, 1024U / 16);
  EXPECT_EQ(found >> 62, 1U);  // 128-byte swizzle
  EXPECT_EQ(found & ~(0x3fffULL | 0x3fffULL << 16 | 0x3fffULL << 32 | 3ULL << 62), 0U);
  // A tile's last step stays within the address field: nothing is carried into the offsets.
  const std::uint32_t last_tile = 232448 - 1024 - 2 * kSlabBytes;  // of all shared memory that a CTA can have
  for (const std::uint64_t step : {channel_step(7), row_step(7)}) {
    const std::uint64_t moved = matrix_descriptor(last_tile, kSlabBytes, kEightRows) + step;
    EXPECT_EQ(moved >> 14, matrix_descriptor(0, kSlabBytes, kEightRows) >> 14);
  }
}

// Claim: a descriptor's steps lead to where the swizzle puts 16 channels further or 16 rows further, and the swizzle is
// that of TMA: address bits 4 to 6 are XORed with bits 7 to 9.
TEST(Descriptors, StepAsTheTileLies) {
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(channel_step(i) * kDescriptorUnit, swizzled_offset(0, 2 * i));
    EXPECT_EQ(row_step(i) * kDescriptorUnit, swizzled_offset(16 * i, 0));
  }
  std::set<std::uint32_t> seen;
  for (int row = 0; row < kTileRows; ++row) {
    for (int chunk = 0; chunk < 16; ++chunk) {
      const std::uint32_t plain = static_cast<std::uint32_t>(chunk / 8 * 16384 + row * 128 + chunk % 8 * 16);
      EXPECT_EQ(swizzled_offset(row, chunk), plain ^ (plain >> 3 & 0x70));
      seen.insert(swizzled_offset(row, chunk));
    }
  }
  EXPECT_EQ(seen.size(), 128U * 16);
  EXPECT_EQ(*seen.rbegin(), 2 * kSlabBytes - 16);
}

TEST(AttendWgmma, SaysWhatItCannotDo) {
  Attention call;
  call.layout = {.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256};
  const std::string reason = attend_wgmma_unsupported(call, 90);
  if (reason.find("no code for sm_90a") != std::string::npos) GTEST_SKIP() << reason;
  EXPECT_EQ(reason, "");
  EXPECT_EQ(attend_wgmma_unsupported(call, 80), "needs compute capability 9.0, found 8.0");
  EXPECT_EQ(attend_wgmma_unsupported(call, 100), "needs compute capability 9.0, found 10.0");
  EXPECT_GT(attend_wgmma_workspace(call), 0U);
  for (const auto& [height, width] : {std::pair{16, 8}, {4, 32}, {128, 1}}) {
    call.layout.region_height = height;
    call.layout.region_width = width;
    EXPECT_EQ(attend_wgmma_unsupported(call, 90), "");
  }
  call.layout.head_dim = 96;
  EXPECT_EQ(attend_wgmma_unsupported(call, 90), "head_dim must be 64 or 128, found 96");
  call.layout.head_dim = 64;
  call.layout.region_height = call.layout.region_width = 8;
  EXPECT_EQ(attend_wgmma_unsupported(call, 90), "token order needs regions of exactly 128 tokens, found 8 x 8");
  call.region_order = true;
  EXPECT_EQ(attend_wgmma_unsupported(call, 90), "");
  call.layout.region_height = 17;
  EXPECT_EQ(attend_wgmma_unsupported(call, 90), "regions may have 128 tokens at most, found 17 x 8");
}

// Claim: an order has every work tile once; a head's longest rows come first, head after head, then heads one after the
// other; without any ahead a position is its own work tile.
TEST(TileOrder, HasEveryWorkTileOnce) {
  for (const Layout& layout : layouts()) {
    const int blocks = layout.blocks(), tiles = layout.heads * blocks;
    const TileOrder order = TileOrder::of_lists(layout), plain = TileOrder::of_dense(layout);
    ASSERT_EQ(order.ahead, std::min(blocks, layout.text_blocks() + 1));
    std::set<int> seen;
    int head = 0;
    for (int position = 0; position < tiles; ++position) {
      const int tile = order(position);
      ASSERT_EQ(plain(position), position);
      ASSERT_TRUE(tile >= 0 && tile < tiles && seen.insert(tile).second) << position;
      const bool among_first = position < layout.heads * order.ahead;
      ASSERT_EQ(tile % blocks < order.ahead, among_first) << position;
      if (among_first) continue;
      ASSERT_GE(tile / blocks, head);
      head = tile / blocks;
    }
  }
}

}  // namespace
}  // namespace draft::gpu
