#include "reference/attention.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "reference/naive.hpp"

namespace draft {
namespace {

using naive::distance;
using naive::Shape;

constexpr double kEpsilon = std::numeric_limits<double>::epsilon();

/// Rounding of one output number: a sum of `tokens` terms of size |V|, and exp of logits that are sums of head_dim
/// terms.
double tolerance(const Problem& problem) {
  const double logits = problem.scale * problem.q.rowwise().norm().maxCoeff() * problem.k.rowwise().norm().maxCoeff();
  return kEpsilon * problem.v.cwiseAbs().maxCoeff() *
         (static_cast<double>(problem.grid.tokens()) + 4.0 * static_cast<double>(problem.head_dim()) * logits);
}

class AttentionShapes : public testing::TestWithParam<Shape> {};

// Claim: attention with an online softmax equals softmax by its definition, under every kind of mask.
TEST_P(AttentionShapes, EqualsTheDefinition) {
  const Shape& shape = GetParam();
  const Problem problem = naive::random_problem(shape.grid, shape.dim, 1.5, 11);
  const Partition partition(shape.grid, shape.region);
  const DraftMap map = draft_scores(problem, partition, Pool::average);
  std::vector<BlockMask> masks{BlockMask(partition.regions(), true), select(map, Rule::row, 0.5),
                               select(map, Rule::logits, 0.9), BlockMask(partition.regions(), false)};
  masks.back().set(0, partition.regions() - 1, true);  // one block in the whole head
  for (const BlockMask& mask : masks) {
    const Output output = attend(problem, partition, mask);
    const Matrix wanted = naive::probabilities(problem, naive::allowed(partition, mask)) * problem.v;
    EXPECT_LE(distance(output.o, wanted), tolerance(problem));
  }
}

TEST_P(AttentionShapes, LogSumExpIsTheDefinition) {
  const Problem problem = naive::random_problem(GetParam().grid, GetParam().dim, 1.5, 12);
  const Output output = attend_dense(problem);
  const Matrix logits = problem.scale * (problem.q * problem.k.transpose());
  const Vector wanted = (logits.array().exp() * naive::seen(problem.grid).array()).rowwise().sum().log();
  EXPECT_LE(distance(output.lse, wanted), tolerance(problem) + 1e3 * kEpsilon);
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionShapes,
                         testing::Values(Shape{{1, 1, 1, 0}, {8, 16}, 4},       // one token
                                         Shape{{1, 8, 16, 0}, {8, 16}, 8},      // one block
                                         Shape{{2, 9, 17, 0}, {8, 16}, 8},      // block + 1
                                         Shape{{2, 7, 15, 5}, {8, 16}, 8},      // block - 1, text
                                         Shape{{3, 13, 21, 77}, {4, 8}, 16},    // ragged, text
                                         Shape{{1, 32, 40, 300}, {32, 40}, 8},  // a region longer than a row piece
                                         Shape{{1, 1, 1, 0, true}, {1, 16}, 4},
                                         Shape{{1, 1, 700, 0, true}, {1, 16}, 8},  // longer than a column piece
                                         Shape{{1, 1, 601, 0, true}, {1, 300}, 8}  // both
                                         ));

// Given a mask that drops a whole block row and no text, claim: output 0, lse = -inf, other rows untouched.
TEST(Attention, ARowThatKeepsNothingIsZero) {
  const Grid grid{2, 4, 4, 0};
  const Problem problem = naive::random_problem(grid, 8, 1.0, 3);
  const Partition partition(grid, RegionSize{4, 4});
  BlockMask mask(2, true);
  mask.set(1, 0, false);
  mask.set(1, 1, false);
  const Output output = attend(problem, partition, mask);
  EXPECT_EQ(output.o.bottomRows(16), Matrix::Zero(16, 8));
  for (Index u = 16; u < 32; ++u) EXPECT_EQ(output.lse[u], -std::numeric_limits<double>::infinity());
  EXPECT_LE(distance(output.o.topRows(16), attend_dense(problem).o.topRows(16)), tolerance(problem));
}

// Given keys so that each query's own key wins by 1e4, claim: the output is that token's value.
TEST(Attention, OneHotRowsReturnTheirValue) {
  const Grid grid{1, 4, 8, 0};
  Problem problem = naive::random_problem(grid, 32, 1.0, 4);
  problem.q = 100.0 * Matrix::Identity(32, 32);
  problem.k = 100.0 * Matrix::Identity(32, 32);
  problem.scale = 1.0;
  EXPECT_EQ(attend_dense(problem).o, problem.v);
}

TEST(Attention, AllLogitsStronglyNegativeIsStillASoftmax) {
  const Grid grid{1, 8, 8, 2};
  Problem problem = naive::random_problem(grid, 8, 0.1, 5);
  problem.q.col(0).setConstant(100.0);
  problem.k.col(0).setConstant(-100.0);  // scale * S near -3500: exp alone is 0
  const Matrix wanted = naive::probabilities(problem, Matrix::Ones(66, 66)) * problem.v;
  EXPECT_LE(distance(attend_dense(problem).o, wanted), tolerance(problem));
}

TEST(Attention, ThreadsDoNotChangeABit) {
  const Problem problem = naive::random_problem({3, 10, 18, 7}, 16, 1.0, 6);
  const Partition partition(problem.grid, RegionSize{4, 4});
  const BlockMask mask = select(draft_scores(problem, partition, Pool::average), Rule::softmax, 0.7);
  EXPECT_EQ(attend(problem, partition, mask, 1).o, attend(problem, partition, mask, 3).o);
}

// Negative control: one wrong block exceeds the tolerance above.
TEST(Attention, OneWrongBlockIsSeen) {
  const Problem problem = naive::random_problem({2, 9, 17, 0}, 8, 1.5, 11);
  const Partition partition(problem.grid, RegionSize{8, 16});
  BlockMask mask(partition.regions(), true);
  const Matrix right = attend(problem, partition, mask).o;
  mask.set(3, 2, false);
  EXPECT_GT(distance(attend(problem, partition, mask).o, right), 1e6 * tolerance(problem));
}

TEST(Attention, AMaskOfAnotherShapeIsRefused) {
  const Problem problem = naive::random_problem({1, 8, 16, 0}, 4, 1.0, 1);
  const Partition partition(problem.grid, RegionSize{4, 4});
  EXPECT_THROW(attend(problem, partition, BlockMask(3, true)), std::invalid_argument);
  EXPECT_THROW(attend(problem, Partition({1, 8, 8, 0}, RegionSize{4, 4}), BlockMask(4, true)), std::invalid_argument);
}

}  // namespace
}  // namespace draft
