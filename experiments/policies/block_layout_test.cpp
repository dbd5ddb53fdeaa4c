#include "experiments/policies/block_layout.hpp"

#include <gtest/gtest.h>

#include <set>

#include "reference/naive.hpp"

namespace draft {
namespace {

constexpr BlockLayout kLayouts[] = {BlockLayout::raster, BlockLayout::frame_last, BlockLayout::cube};

TEST(BlockLayouts, HoldEachTokenOnce) {
  for (const Grid& grid : {Grid{1, 1, 1, 0}, Grid{3, 5, 7, 2}, Grid{8, 32, 48, 16}, Grid{5, 4, 8, 0}}) {
    for (const BlockLayout layout : kLayouts) {
      const std::vector<Index> tokens = places(grid, layout);
      EXPECT_EQ(std::set<Index>(tokens.begin(), tokens.end()).size(), static_cast<std::size_t>(grid.video()));
      EXPECT_EQ(static_cast<Index>(tokens.size()), grid.video()) << to_string(layout);
    }
  }
  EXPECT_THROW((void)places(Grid{1, 1, 1, 0}, BlockLayout::region), std::invalid_argument);
}

// By hand, on 2 frames of 2 x 3; and a grid of two cubes side by side.
TEST(BlockLayouts, OrderTokensAsTheySay) {
  const Grid grid{2, 2, 3, 1};
  EXPECT_EQ(places(grid, BlockLayout::raster), (std::vector<Index>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(places(grid, BlockLayout::frame_last), (std::vector<Index>{0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11}));
  const std::vector<Index> cubes = places(Grid{1, 4, 16, 0}, BlockLayout::cube);
  EXPECT_EQ(std::vector<Index>(cubes.begin() + 6, cubes.begin() + 10), (std::vector<Index>{6, 7, 16, 17}));
  EXPECT_EQ(cubes[32], 8);
}

TEST(BlockLayouts, MoveRowsAndLeaveTextBehind) {
  const Problem problem = naive::random_problem(Grid{2, 2, 3, 2}, 4, 1.0, 1);
  const Problem moved = in_layout(problem, BlockLayout::frame_last);
  EXPECT_EQ(moved.grid, (Grid{1, 1, 12, 2}));
  EXPECT_EQ(moved.q.row(1), problem.q.row(6));
  EXPECT_EQ(moved.k.row(11), problem.k.row(11));
  EXPECT_EQ(moved.v.row(12), problem.v.row(12));
  EXPECT_EQ(moved.v.row(13), problem.v.row(13));
}

}  // namespace
}  // namespace draft
