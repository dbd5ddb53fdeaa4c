// The pooled remainder against dense attention whose logits and values are replaced, by n x n matrices.

#include <gtest/gtest.h>

#include <limits>

#include "reference/attention.hpp"
#include "reference/naive.hpp"

namespace draft {
namespace {

using naive::distance;
using naive::Shape;

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

/// Rounding of one output number: a sum of `tokens` terms of size |V|, and exp of logits that are sums of head_dim
/// terms, on the one side over means of keys, on the other means over sums.
double tolerance(const Problem& problem) {
  const double logits = problem.scale * problem.q.rowwise().norm().maxCoeff() * problem.k.rowwise().norm().maxCoeff();
  return kEpsilon * problem.v.cwiseAbs().maxCoeff() *
         (static_cast<double>(problem.grid.tokens()) + 8.0 * static_cast<double>(problem.head_dim()) * logits);
}

Output pooled(const Problem& problem, const Partition& partition, const BlockMask& mask, int threads = 0) {
  const PooledRows rows = pooled_rows(problem, partition);
  return attend(problem, partition, mask, &rows, threads);
}

class RemainderShapes : public testing::TestWithParam<Shape> {};

// Claim: the remainder is dense attention with every dropped logit replaced by its row-and-block mean. By weights alike
// within a block, that is also how the block's mean value comes about. Rows that keep nothing are no exception.
TEST_P(RemainderShapes, ReplacesLogitsByTheirMeans) {
  const Shape& shape = GetParam();
  const Problem problem = naive::random_problem(shape.grid, shape.dim, 1.5, 21);
  const Partition partition(shape.grid, shape.region);
  const DraftMap map = draft_scores(problem, partition, Pool::average);
  const BlockMask none(partition.regions(), false);
  BlockMask one = none;
  one.set(0, partition.regions() - 1, true);
  for (const BlockMask& mask : {select(map, Rule::row, 0.5), select(map, Rule::logits, 0.9), one, none}) {
    const Matrix logits = naive::remainder_logits(problem, partition, mask);
    const Output output = pooled(problem, partition, mask);
    EXPECT_LE(distance(output.o, softmax_rows(logits) * problem.v), tolerance(problem));
    const Vector lse = logits.array().exp().rowwise().sum().log();
    EXPECT_LE(distance(output.lse, lse), tolerance(problem) + 1e3 * kEpsilon);
  }
}

// Given a mask that keeps everything, claim: the remainder changes no bit.
TEST_P(RemainderShapes, IsNothingWhereAllIsKept) {
  const Problem problem = naive::random_problem(GetParam().grid, GetParam().dim, 1.5, 22);
  const Partition partition(GetParam().grid, GetParam().region);
  const BlockMask all(partition.regions(), true);
  EXPECT_EQ(pooled(problem, partition, all).o, attend(problem, partition, all).o);
  EXPECT_LE(distance(pooled(problem, partition, all).o, attend_dense(problem).o), tolerance(problem));
}

INSTANTIATE_TEST_SUITE_P(Shapes, RemainderShapes,
                         testing::Values(Shape{{1, 1, 1, 0}, {8, 16}, 4},     // one token
                                         Shape{{1, 8, 16, 0}, {8, 16}, 8},    // one block
                                         Shape{{2, 9, 17, 0}, {8, 16}, 8},    // block + 1
                                         Shape{{2, 7, 15, 5}, {8, 16}, 8},    // block - 1, text
                                         Shape{{3, 13, 21, 77}, {4, 8}, 16},  // ragged, text
                                         Shape{{1, 32, 40, 300}, {1, 2}, 4},  // more regions than a segment has columns
                                         Shape{{1, 32, 40, 300}, {32, 40}, 8}  // a region longer than a row piece
                                         ));

// By hand: two regions of two tokens, the row keeps its own. Logits 0 and log 2 are kept; those of the other region,
// log 4 and log 16, have mean log 8, twice. Weights 1, 2, 8, 8 of 19; the dropped values 10 and 20 have mean 15.
TEST(Remainder, ByHand) {
  const Grid grid{1, 1, 4, 0};
  Problem problem = naive::random_problem(grid, 1, 1.0, 1);
  problem.scale = 2.0;
  problem.q.setConstant(0.5);
  problem.k << 0.0, std::log(2.0), std::log(4.0), std::log(16.0);
  problem.v << 19.0, 38.0, 10.0, 20.0;
  const Partition partition(grid, RegionSize{1, 2});
  BlockMask mask(2, true);
  mask.set(0, 1, false);
  const Output output = pooled(problem, partition, mask);
  const double wanted = (19.0 + 2.0 * 38.0 + 16.0 * 15.0) / 19.0;
  EXPECT_LE(std::abs(output.o(0, 0) - wanted), 8.0 * kEpsilon * wanted);
  EXPECT_LE(std::abs(output.lse[0] - std::log(19.0)), 8.0 * kEpsilon * std::log(19.0));
  const double dense = (19.0 + 2.0 * 38.0 + 4.0 * 10.0 + 16.0 * 20.0) / 23.0;
  EXPECT_LE(std::abs(output.o(3, 0) - dense), 8.0 * kEpsilon * dense);  // the second block row keeps all
}

// Given pooled rows that someone rounded, claim: they are what is used, in both places.
TEST(Remainder, TakesThePooledRowsThatItIsGiven) {
  const Problem problem = naive::random_problem({2, 6, 10, 3}, 8, 1.0, 23);
  const Partition partition(problem.grid, RegionSize{4, 4});
  const BlockMask mask = select(draft_scores(problem, partition, Pool::average), Rule::row, 0.6);
  const PooledRows exact = pooled_rows(problem, partition);
  PooledRows other = exact;
  other.v.array() += 1.0;
  const Matrix one = attend(problem, partition, mask, &exact).o, two = attend(problem, partition, mask, &other).o;
  EXPECT_GT((two - one).topRows(problem.grid.video()).minCoeff(), 0.0);  // each row drops something
  EXPECT_EQ(two.bottomRows(3), one.bottomRows(3));                       // text rows drop nothing
  other = exact;
  other.k *= 0.0;
  EXPECT_GT(distance(attend(problem, partition, mask, &other).o, one), 1e6 * tolerance(problem));
}

// Given logits of a million, claim: a block's weight is its number of tokens, not lost beside the logit as its
// logarithm would be. All logits are equal, so that attention is the mean of all values.
TEST(Remainder, CountsTokensBesideLargeLogits) {
  const Grid grid{1, 1, 7, 0};
  Problem problem = naive::random_problem(grid, 4, 1.0, 24);
  problem.q.setConstant(1e6);
  problem.k.setConstant(1.0);
  const Partition partition(grid, RegionSize{1, 2});
  const Matrix o = pooled(problem, partition, BlockMask(partition.regions(), false)).o;
  const Matrix mean = Vector::Ones(7) * problem.v.colwise().mean();
  EXPECT_LE(distance(o, mean), 16.0 * kEpsilon * problem.v.cwiseAbs().maxCoeff());
}

// Negative control: a mask with one block more, and the mask alone, are seen.
TEST(Remainder, OneWrongBlockIsSeen) {
  const Problem problem = naive::random_problem({2, 9, 17, 0}, 8, 1.5, 21);
  const Partition partition(problem.grid, RegionSize{8, 16});
  BlockMask mask = select(draft_scores(problem, partition, Pool::average), Rule::row, 0.5);
  const Matrix right = pooled(problem, partition, mask).o;
  EXPECT_GT(distance(attend(problem, partition, mask).o, right), 1e6 * tolerance(problem));
  mask.set(3, 2, !mask.kept(3, 2));
  EXPECT_GT(distance(pooled(problem, partition, mask).o, right), 1e6 * tolerance(problem));
}

// Claim: NaN in a row or in a pooled row comes out as NaN where it takes part, and nowhere else.
TEST(Remainder, PassesNaNOn) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Problem problem = naive::random_problem({1, 1, 8, 0}, 4, 1.0, 25);
  const Partition partition(problem.grid, RegionSize{1, 4});
  BlockMask mask(2, true);
  mask.set(0, 1, false);
  PooledRows rows = pooled_rows(problem, partition);
  rows.k(1, 0) = nan;
  const Output bad_key = attend(problem, partition, mask, &rows);
  EXPECT_TRUE(bad_key.o.topRows(4).array().isNaN().all());
  EXPECT_TRUE(bad_key.lse.head(4).array().isNaN().all());
  EXPECT_FALSE(bad_key.o.bottomRows(4).hasNaN());
  rows = pooled_rows(problem, partition);
  rows.v(1, 2) = nan;
  const Matrix bad_value = attend(problem, partition, mask, &rows).o;
  EXPECT_TRUE(bad_value.col(2).head(4).array().isNaN().all());
  EXPECT_FALSE(bad_value.col(1).hasNaN());
  problem.q(0, 0) = nan;
  EXPECT_TRUE(pooled(problem, partition, mask).o.row(0).array().isNaN().all());
}

TEST(Remainder, ThreadsDoNotChangeABit) {
  const Problem problem = naive::random_problem({3, 10, 18, 7}, 16, 1.0, 6);
  const Partition partition(problem.grid, RegionSize{4, 4});
  const BlockMask mask = select(draft_scores(problem, partition, Pool::average), Rule::softmax, 0.7);
  EXPECT_EQ(pooled(problem, partition, mask, 1).o, pooled(problem, partition, mask, 3).o);
}

TEST(Remainder, RowsOfAnotherShapeAreRefused) {
  const Problem problem = naive::random_problem({1, 8, 16, 0}, 4, 1.0, 1);
  const Partition partition(problem.grid, RegionSize{4, 4});
  const BlockMask mask(partition.regions(), false);
  PooledRows rows = pooled_rows(problem, partition);
  rows.v.conservativeResize(3, 4);
  EXPECT_THROW(attend(problem, partition, mask, &rows), std::invalid_argument);
  rows = pooled_rows(problem, Partition(problem.grid, RegionSize{8, 16}));
  EXPECT_THROW(attend(problem, partition, mask, &rows), std::invalid_argument);
}

}  // namespace
}  // namespace draft
