#include "reference/draft_mask.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace draft {
namespace {

DraftMap map_of(Index g, std::initializer_list<double> values) {
  Matrix logits(g, g);
  std::copy(values.begin(), values.end(), logits.data());
  return {logits, 1.0};
}

// HunyuanVideo 768p has 990 regions: 90% keeps 98,010 blocks by the paper's text, 98,011 by its code.
TEST(Counts, AreExactWhereDecimalsHaveNoDouble) {
  EXPECT_EQ(kept_count(0.9, 980100), 98010);
  EXPECT_EQ(released_kept_count(0.9, 980100), 98011);
  for (const Index blocks : {10, 100, 9216, 980100}) {
    for (int percent = 0; percent < 100; ++percent) {
      const Index kept_times_100 = (100 - percent) * blocks;
      EXPECT_EQ(kept_count(percent / 100.0, blocks), (kept_times_100 + 99) / 100) << percent << "% of " << blocks;
      EXPECT_EQ(released_kept_count(percent / 100.0, blocks), std::min(blocks, blocks - percent * blocks / 100 + 1))
          << percent << "% of " << blocks;
    }
  }
  EXPECT_EQ(kept_count(0.999999, 4), 1);
  EXPECT_EQ(kept_count(1.0 - 1e-9, 4), 1);  // at least one block is kept
}

TEST(Counts, SparsityOutsideItsRangeIsRefused) {
  for (const double bad : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THROW(kept_count(bad, 10), std::invalid_argument);
    EXPECT_THROW(released_kept_count(bad, 10), std::invalid_argument);
  }
}

TEST(DraftScores, AreProductsOfPooledRowsAndSoftmaxRowsSumToOne) {
  Problem problem;
  problem.grid = {1, 2, 4, 1};
  problem.scale = 0.5;
  problem.q = Matrix::Random(9, 3);
  problem.k = Matrix::Random(9, 3);
  problem.v = Matrix::Random(9, 3);
  const Partition partition(problem.grid, RegionSize{2, 2});
  const DraftMap map = draft_scores(problem, partition, Pool::average);
  const Eigen::RowVectorXd q0 = (problem.q.row(0) + problem.q.row(1) + problem.q.row(4) + problem.q.row(5)) / 4.0;
  const Eigen::RowVectorXd k1 = (problem.k.row(2) + problem.k.row(3) + problem.k.row(6) + problem.k.row(7)) / 4.0;
  // A dot product of 3 terms of size <= 1: 3 roundings of each side.
  EXPECT_LE(std::abs(map.logits(0, 1) - q0.dot(k1)), 8 * std::numeric_limits<double>::epsilon());
  const Matrix p = map.probabilities();
  for (Index i = 0; i < 2; ++i) EXPECT_LE(std::abs(p.row(i).sum() - 1.0), 4 * std::numeric_limits<double>::epsilon());
  EXPECT_LE(std::abs(p(0, 1) / p(0, 0) - std::exp(0.5 * (map.logits(0, 1) - map.logits(0, 0)))), 1e-15);
}

// Given scores of row 1 far above row 0's, claim: the rule on logits keeps row 1 alone (row 0 is empty), the rule on
// the softmax keeps each row's largest block, and the row rule keeps one block of each row.
TEST(Rules, DifferAsTheirDefinitionsDo) {
  const DraftMap map = map_of(2, {0.0, 2.0, 11.0, 10.0});
  const BlockMask logits = select(map, Rule::logits, 0.5);
  EXPECT_EQ(logits.columns(0).size(), 0U);
  EXPECT_EQ(logits.columns(1).size(), 2U);
  EXPECT_EQ(logits.empty_rows(), 1);
  const BlockMask softmax = select(map, Rule::softmax, 0.5);
  EXPECT_TRUE(softmax.kept(0, 1) && softmax.kept(1, 0));
  EXPECT_EQ(softmax.kept_blocks(), 2);
  const BlockMask row = select(map, Rule::row, 0.5);
  EXPECT_EQ(row.columns(0), std::vector<Index>{1});
  EXPECT_EQ(row.columns(1), std::vector<Index>{0});
  EXPECT_EQ(select(map, Rule::released, 0.5).kept_blocks(), 3);  // one more than the text's count
}

TEST(Rules, TiesGoToTheLowerIndexAndTheReleasedRuleKeepsThemAll) {
  const DraftMap map = map_of(2, {1.0, 1.0, 1.0, 1.0});
  const BlockMask softmax = select(map, Rule::softmax, 0.75);
  EXPECT_TRUE(softmax.kept(0, 0));
  EXPECT_EQ(softmax.kept_blocks(), 1);
  EXPECT_EQ(select(map, Rule::released, 0.75).kept_blocks(), 4);
  EXPECT_EQ(select(map, Rule::row, 0.5).columns(1), std::vector<Index>{0});
}

TEST(Rules, MasksOfOneRuleAreNested) {
  const DraftMap map{Matrix::Random(13, 13) * 3.0, 0.7};
  for (const Rule rule : {Rule::logits, Rule::softmax, Rule::released, Rule::row}) {
    BlockMask larger(13, true);
    for (const double sparsity : {0.0, 0.3, 0.5, 0.8, 0.95}) {
      const BlockMask mask = select(map, rule, sparsity);
      for (Index i = 0; i < 13; ++i) {
        for (Index j = 0; j < 13; ++j) EXPECT_LE(mask.kept(i, j), larger.kept(i, j));
      }
      larger = mask;
    }
    EXPECT_EQ(select(map, rule, 0.0).kept_blocks(), 169);
  }
}

TEST(Rankings, RandomOnesAreReproducibleAndDifferByHead) {
  EXPECT_EQ(random_ranking(20, 7, 0).rank, random_ranking(20, 7, 0).rank);
  EXPECT_NE(random_ranking(20, 7, 0).rank, random_ranking(20, 7, 1).rank);
  EXPECT_NE(random_ranking(20, 7, 0).rank, random_ranking(20, 8, 0).rank);
  std::vector<std::uint32_t> sorted = random_ranking(20, 7, 0).rank;
  std::sort(sorted.begin(), sorted.end());
  for (std::uint32_t r = 0; r < 400; ++r) EXPECT_EQ(sorted[r], r);
}

TEST(Rankings, ANaNScoreIsRefused) {
  Matrix scores = Matrix::Zero(2, 2);
  scores(1, 0) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(rank_blocks(scores, false), std::invalid_argument);
}

TEST(Names, AreTheRecordFormatsAndRoundTrip) {
  for (const char* name : {"logits", "softmax", "released", "row"}) EXPECT_EQ(to_string(parse_rule(name)), name);
  for (const char* name : {"avg", "max"}) EXPECT_EQ(to_string(parse_pool(name)), name);
  EXPECT_THROW(parse_rule("topk"), std::invalid_argument);
}

}  // namespace
}  // namespace draft
