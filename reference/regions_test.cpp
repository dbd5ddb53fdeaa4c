#include "reference/regions.hpp"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace draft {
namespace {

const Grid kRagged{2, 5, 7, 3};  // 4x4 regions: 2 x 2 a frame, edges of 1 row and 3 columns

/// Token t carries the row (t, -t).
Matrix token_rows(const Grid& grid) {
  Matrix rows(grid.tokens(), 2);
  for (Index t = 0; t < grid.tokens(); ++t) rows.row(t) << static_cast<double>(t), -static_cast<double>(t);
  return rows;
}

// Figure 3's example: in a 4 x 4 frame with 2 x 2 patches the first region is tokens 0, 1, 4, 5.
TEST(Regions, OrderFollowsAlgorithm1) {
  const Partition partition({1, 4, 4, 0}, RegionSize{2, 2});
  const std::vector<Index> wanted{0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
  EXPECT_EQ(std::vector<Index>(partition.order().begin(), partition.order().end()), wanted);
}

TEST(Regions, EdgeRegionsAreSmallerAndEveryTokenIsInOne) {
  const Partition partition(kRagged, RegionSize{4, 4});
  ASSERT_EQ(partition.regions(), 8);
  const std::vector<Index> sizes{16, 12, 4, 3};
  for (Index r = 0; r < 8; ++r) EXPECT_EQ(partition.size(r), sizes[r % 4]);
  const std::set<Index> seen(partition.order().begin(), partition.order().end());
  EXPECT_EQ(static_cast<Index>(seen.size()), kRagged.video());
  EXPECT_EQ(*seen.rbegin(), kRagged.video() - 1);
}

TEST(Regions, InverseUndoesTheOrderAndRestoreUndoesReorder) {
  const Partition partition(kRagged, RegionSize{2, 3});
  const std::vector<Index> inverse = partition.inverse();
  for (Index p = 0; p < kRagged.video(); ++p) EXPECT_EQ(inverse[partition.order()[p]], p);
  const Matrix rows = token_rows(kRagged);
  const Matrix reordered = reorder(rows, partition);
  EXPECT_EQ(restore(reordered, partition), rows);
  EXPECT_NE(reordered, rows);  // the check above can fail
  EXPECT_EQ(reordered.bottomRows(3), rows.bottomRows(3));
}

TEST(Regions, ARegionLargerThanTheGridIsTheFrame) {
  const Partition partition(kRagged, RegionSize{8, 16});
  EXPECT_EQ(partition.regions(), 2);
  EXPECT_EQ(partition.size(1), 35);
}

// Given sums of token numbers by hand, claim: the mean counts real tokens only. Exact in doubles.
TEST(Regions, PoolingAveragesRealTokensOnly) {
  const Partition partition(kRagged, RegionSize{4, 4});
  const Matrix mean = pool_regions(token_rows(kRagged), partition, Pool::average);
  EXPECT_EQ(mean(3, 0), (32.0 + 33.0 + 34.0) / 3.0);  // row 4, columns 4 to 6 of frame 0
  EXPECT_EQ(mean(7, 0), (67.0 + 68.0 + 69.0) / 3.0);  // the same of frame 1
  const Matrix high = pool_regions(token_rows(kRagged), partition, Pool::maximum);
  EXPECT_EQ(high(0, 0), 24.0);  // row 3, column 3
  EXPECT_EQ(high(0, 1), 0.0);   // a maximum of negative numbers is by channel: token 0's -0
}

TEST(Regions, RadiusIsTheFarthestTokensDistance) {
  const Grid grid{1, 1, 3, 0};
  Matrix rows(3, 2);
  rows << 0, 0, 3, 4, 0, 0;
  const Partition partition(grid, RegionSize{1, 3});
  const Matrix centre = Matrix::Zero(1, 2);
  EXPECT_EQ(region_radii(rows, partition, centre)[0], 5.0);
}

TEST(Regions, RefinementHoldsEveryPartitionsCuts) {
  const std::vector<Partition> partitions{Partition(kRagged, RegionSize{4, 2}), Partition(kRagged, RegionSize{3, 5})};
  const Partition atoms = common_refinement(partitions);
  for (const Partition& partition : partitions) {
    const std::vector<Index> parent = parents(atoms, partition);
    const std::vector<Index> fine = atoms.region_of_token(), coarse = partition.region_of_token();
    for (Index t = 0; t < kRagged.video(); ++t) EXPECT_EQ(parent[fine[t]], coarse[t]);
  }
  EXPECT_THROW(parents(partitions[0], partitions[1]), std::invalid_argument);
}

TEST(Regions, BadInputIsRefusedByName) {
  EXPECT_THROW(parse_region_size("8"), std::invalid_argument);
  EXPECT_THROW(parse_region_size("8x"), std::invalid_argument);
  EXPECT_THROW(parse_region_size("0x16"), std::invalid_argument);
  EXPECT_THROW(parse_region_size("8x16x2"), std::invalid_argument);
  EXPECT_EQ(parse_region_size("8x16"), (RegionSize{8, 16}));
  EXPECT_THROW(parse_pool("mean"), std::invalid_argument);
  EXPECT_THROW(Partition(kRagged, RegionSize{0, 4}), std::invalid_argument);
  EXPECT_THROW(Partition(Grid{0, 1, 1, 0}, RegionSize{1, 1}), std::invalid_argument);
  EXPECT_THROW(reorder(Matrix::Zero(4, 2), Partition(kRagged, RegionSize{4, 4})), std::invalid_argument);
}

}  // namespace
}  // namespace draft
