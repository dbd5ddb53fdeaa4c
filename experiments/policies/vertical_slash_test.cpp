// Lines that are planted in the logits of one head are found, by the queries that the policy looks at and no others.

#include <gtest/gtest.h>

#include <functional>

#include "experiments/policies/policy.hpp"

namespace draft {
namespace {

constexpr Index kTokens = 300, kBlock = 16, kBlocks = 19;  // the last block has 12 tokens

/// A head with these logits: queries are their rows, keys the unit vectors.
Problem head_of(bool causal, const std::function<double(Index query, Index key)>& logit, Index tokens = kTokens) {
  Problem problem{{1, 1, tokens, 0, causal}, Matrix(tokens, tokens), {}, Matrix::Zero(tokens, 1), 1.0, "test"};
  problem.k = Matrix::Identity(tokens, tokens);
  for (Index i = 0; i < tokens; ++i) {
    for (Index j = 0; j < tokens; ++j) problem.q(i, j) = logit(i, j);
  }
  return problem;
}

/// The first `cut` blocks of the policy's order.
BlockMask mask(const Problem& problem, Index cut) {
  const Partition partition(problem.grid, {1, kBlock});
  const PolicyRow& row = row_of(Policy::vertical_slash);
  return {ranking_of(row, {.regions = partition.regions(),
                           .causal = problem.grid.causal,
                           .problem = &problem,
                           .partition = &partition}),
          cut};
}

/// The blocks that hold a pair of tokens of the lines; of causal heads those on and below the diagonal, and all on it.
BlockMask passed(bool causal, const std::function<bool(Index query, Index key)>& is_on_a_line) {
  BlockMask found(kBlocks, false);
  for (Index i = 0; i < kTokens; ++i) {
    for (Index j = 0; j < kTokens; ++j) {
      if (is_on_a_line(i, j) && !(causal && j > i)) found.set(i / kBlock, j / kBlock, true);
    }
  }
  return causal ? causal_mask(found) : found;
}

// Given a distance of 100 tokens with much attention and key 37 with less, claim: at the size of the distance's blocks
// the mask is these, at that of both lines both.
TEST(VerticalSlash, TakesTheHeaviestLinesOfAText) {
  const Problem problem =
      head_of(true, [](Index i, Index j) { return (i - j == 100 ? 9.0 : 0.0) + (j == 37 ? 8.0 : 0.0); });
  const BlockMask slash = passed(true, [](Index i, Index j) { return i - j == 100; });
  const BlockMask both = passed(true, [](Index i, Index j) { return i - j == 100 || j == 37; });
  EXPECT_EQ(slash.kept_blocks(), kBlocks + 13 + 12);  // two diagonals of blocks
  EXPECT_EQ(mask(problem, slash.kept_blocks()), slash);
  EXPECT_EQ(mask(problem, both.kept_blocks()), both);
}

// Claim: on a video's head keys may be behind their queries.
TEST(VerticalSlash, TakesLinesOnBothSidesOfAVideosDiagonal) {
  const Problem problem =
      head_of(false, [](Index i, Index j) { return (j - i == 50 ? 9.0 : 0.0) + (j == 250 ? 8.0 : 0.0); });
  const BlockMask both = passed(false, [](Index i, Index j) { return j - i == 50 || j == 250; });
  EXPECT_EQ(mask(problem, both.kept_blocks()), both);
}

// Negative control: a key that early queries alone attend to is found among a video's, and not by a text's last ones.
TEST(VerticalSlash, LooksAtTheLastQueriesOfATextAlone) {
  const auto early = [](Index i, Index j) { return i < kTokens - 64 && j == 37 ? 9.0 : 0.0; };
  const BlockMask column = passed(false, [](Index, Index j) { return j == 37; });
  EXPECT_EQ(mask(head_of(false, early), kBlocks), column);
  const BlockMask of_text = passed(true, [](Index, Index j) { return j == 37; });
  EXPECT_NE(mask(head_of(true, early), of_text.kept_blocks()), of_text);
  // A few queries more, and some are of the last 64.
  const auto seen = [](Index i, Index j) { return i < kTokens - 54 && j == 37 ? 9.0 : 0.0; };
  EXPECT_EQ(mask(head_of(true, seen), of_text.kept_blocks()), of_text);
}

// Claim: of fewer tokens than 64 all are looked at.
TEST(VerticalSlash, TakesShortTexts) {
  const Problem problem = head_of(true, [](Index, Index j) { return j == 3 ? 9.0 : 0.0; }, 40);
  const BlockMask found = mask(problem, 5);
  EXPECT_EQ(found.kept_blocks(), 5);
  EXPECT_TRUE(found.kept(1, 0) && found.kept(2, 0));
}

}  // namespace
}  // namespace draft
