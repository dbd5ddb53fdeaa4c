// The device's index arithmetic, run on the host, against the reference's tables.

#include "kernels/core/layout.hpp"

#include <gtest/gtest.h>

#include "reference/regions.hpp"

namespace draft::gpu {
namespace {

// Given regions that divide the grid and that do not, claim: region order, its inverse, region sizes and first tokens
// are the reference's.
TEST(Layouts, AreTheReferencesPartition) {
  for (const int frames : {1, 3}) {
    for (const int height : {1, 7, 8, 9, 33}) {
      for (const int width : {1, 15, 16, 17, 52}) {
        for (const RegionSize size : {RegionSize{8, 16}, RegionSize{1, 1}, RegionSize{16, 16}, RegionSize{5, 3}}) {
          const Layout layout{.frames = frames,
                              .height = height,
                              .width = width,
                              .text = 5,
                              .region_height = static_cast<int>(size.height),
                              .region_width = static_cast<int>(size.width)};
          const Grid grid{frames, height, width, 5};
          const Partition partition(grid, size);
          ASSERT_EQ(layout.tokens(), grid.tokens());
          ASSERT_EQ(layout.regions(), partition.regions());
          const std::vector<Index> inverse = partition.inverse();
          for (int p = 0; p < layout.video(); ++p) {
            ASSERT_EQ(layout.token_at(p), partition.order()[p]);
            ASSERT_EQ(layout.position_of(p), inverse[p]);
          }
          for (int t = layout.video(); t < layout.tokens(); ++t) {
            ASSERT_EQ(layout.token_at(t), t);
            ASSERT_EQ(layout.position_of(t), t);
            ASSERT_EQ(layout.block_of(t), layout.regions() + (t - layout.video()) / layout.region_tokens());
          }
          const std::vector<Index> region_of = partition.region_of_token();
          for (int t = 0; t < layout.video(); ++t) ASSERT_EQ(layout.block_of(t), region_of[t]);
          for (int r = 0; r < layout.regions(); ++r) {
            const Box box = layout.box(r);
            ASSERT_EQ(box.rows * box.columns, partition.size(r));
            ASSERT_EQ(box.first, partition.order()[partition.offset(r)]);
          }
        }
      }
    }
  }
}

TEST(Layouts, CountTextBlocksOfARegionsTokens) {
  Layout layout{.frames = 2, .height = 8, .width = 16};
  for (const auto& [text, blocks] : {std::pair{0, 0}, {1, 1}, {77, 1}, {128, 1}, {129, 2}, {256, 2}}) {
    layout.text = text;
    EXPECT_EQ(layout.text_blocks(), blocks);
    EXPECT_EQ(layout.blocks(), 2 + blocks);
  }
}

TEST(Layouts, OffsetsNeed64Bits) {
  const Layout hunyuan{.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256};
  EXPECT_EQ(hunyuan.regions(), 990);
  EXPECT_EQ(hunyuan.offset(23, 126975), 24LL * 126976 * 128 - 128);
  const Layout large{.heads = 48, .frames = 132, .height = 48, .width = 80};
  EXPECT_EQ(large.offset(48, 0), 48LL * 132 * 3840 * 128);  // 3.1e9
  EXPECT_EQ(large.map_offset(48), 48LL * 3960 * 3960);
}

TEST(Layouts, AreRefusedByFieldName) {
  const auto message = [](const Layout& layout) -> std::string {
    try {
      require_valid(layout);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message({}), "");
  EXPECT_NE(message({.heads = 0}).find("heads must be from 1"), std::string::npos);
  EXPECT_NE(message({.frames = 0}).find("frames"), std::string::npos);
  EXPECT_NE(message({.text = -1}).find("text"), std::string::npos);
  EXPECT_NE(message({.head_dim = 60}).find("multiple of 8, found 60"), std::string::npos);
  EXPECT_NE(message({.region_height = 0}).find("region height"), std::string::npos);
  EXPECT_NE(message({.frames = 1 << 20, .height = 1 << 10, .width = 1 << 10}).find("tokens"), std::string::npos);
  EXPECT_NE(message({.frames = 12001}).find("blocks must be from 1 to 12000, found 12001"), std::string::npos);
}

}  // namespace
}  // namespace draft::gpu
