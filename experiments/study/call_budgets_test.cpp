#include "experiments/study/call_budgets.hpp"

#include <gtest/gtest.h>

#include <numeric>

namespace draft {
namespace {

Index sum(const std::vector<Index>& cuts) { return std::accumulate(cuts.begin(), cuts.end(), Index{0}); }

// By hand: the three largest of two heads' scores; of equal ones the earlier head's.
TEST(CallBudgets, TakeTheLargestOfAllHeads) {
  const Matrix first{{0.9, 0.1}, {0.5, 0.5}}, second{{0.8, 0.2}, {0.6, 0.5}};
  EXPECT_EQ(cuts_of_scores({first, second}, 3, false), (std::vector<Index>{1, 2}));
  EXPECT_EQ(cuts_of_scores({first, second}, 5, false), (std::vector<Index>{3, 2}));
  EXPECT_EQ(cuts_of_scores({first, second}, 8, false), (std::vector<Index>{4, 4}));
}

// By hand: two diagonals of three blocks, whatever their scores, and the largest of what is below them; what is above
// counts for nothing. Negative control: without `causal` it does.
TEST(CallBudgets, KeepTheDiagonalsOfCausalHeads) {
  const Matrix first{{0.0, 9.0, 9.0}, {0.5, 0.0, 9.0}, {0.4, 0.3, 0.0}};
  const Matrix second{{0.9, 9.0, 9.0}, {0.8, 0.9, 9.0}, {0.7, 0.1, 0.9}};
  EXPECT_EQ(cuts_of_scores({first, second}, 8, true), (std::vector<Index>{3, 5}));
  EXPECT_EQ(cuts_of_scores({first, second}, 10, true), (std::vector<Index>{5, 5}));
  EXPECT_EQ(cuts_of_scores({first, second}, 2, true), (std::vector<Index>{3, 3}));
  EXPECT_EQ(cuts_of_scores({first, second}, 99, true), (std::vector<Index>{6, 6}));
  EXPECT_EQ(cuts_of_scores({first, second}, 10, false), (std::vector<Index>{3, 7}));
}

// Claim: a call of causal heads keeps the blocks of equal budgets, of those on and below the diagonal.
TEST(CallBudgets, OfCausalHeadsAreOfBlocksOnAndBelowTheDiagonal) {
  Cell cell{{Policy::oracle, {}, {}, {1, 8}, 0.6}, false};
  cell.by_call = true;
  CallBudgets budgets({cell});
  for (int head = 0; head < 3; ++head) {
    const Matrix mass = Matrix::Random(10, 10).cwiseAbs() * (head + 1);
    budgets.add(
        budgets.look([&](std::size_t) -> PolicyInput { return {.regions = 10, .causal = true, .mass = &mass}; }));
  }
  EXPECT_EQ(budgets.cut(0, 0) + budgets.cut(0, 1) + budgets.cut(0, 2), 3 * kept_count(0.6, 55));
}

// Claim: cells of several sparsities share scores, and each call's sum is the budget's.
TEST(CallBudgets, KeepTheSumOfEqualBudgets) {
  std::vector<Cell> cells;
  for (const double sparsity : {0.5, 0.9}) {
    Cell cell{{Policy::oracle, {}, {}, {4, 8}, sparsity}, false};
    cell.by_call = true;
    cells.push_back(cell);
  }
  CallBudgets budgets(cells);
  for (int head = 0; head < 3; ++head) {
    const Matrix mass = Matrix::Random(10, 10).cwiseAbs() * (head + 1);
    budgets.add(budgets.look([&](std::size_t) -> PolicyInput { return {.regions = 10, .mass = &mass}; }));
  }
  for (std::size_t i = 0; i < cells.size(); ++i) {
    EXPECT_EQ(budgets.cut(i, 0) + budgets.cut(i, 1) + budgets.cut(i, 2), 3 * kept_count(cells[i].sparsity, 100));
    EXPECT_LT(budgets.cut(i, 0), budgets.cut(i, 2));
  }
}

// Claim: whole heads are those with the largest errors, as many as fit; the call keeps the budget's blocks exactly.
TEST(CallBudgets, OfDuoAttentionAreWholeHeadsFirst) {
  const HeadBudget& budget = *row_of(Policy::duo_attention).heads;
  const std::vector<double> errors{0.1, 0.9, 0.3, 0.2, 0.8};
  const std::vector<Index> cuts = budget.cuts(errors, 40, false, 0.5);
  EXPECT_EQ(sum(cuts), 5 * kept_count(0.5, 1600));
  EXPECT_EQ(cuts[1], 1600);
  EXPECT_EQ(cuts[4], 1600);
  EXPECT_LT(cuts[0], 800);
  EXPECT_LE(std::abs(cuts[0] - cuts[2]), 1);
  for (const Index regions : {1, 2, 24, 99}) {
    for (const double sparsity : {0.0, 0.3, 0.75, 0.9, 0.99}) {
      EXPECT_EQ(sum(budget.cuts(errors, regions, false, sparsity)), 5 * kept_count(sparsity, regions * regions));
    }
  }
}

// Claim: at s = 0.8 heads above a recall of 0.8 get 0.9 and as many of the least 0.7; no more than half of either.
TEST(CallBudgets, OfAdaspaMoveFromTheMostToTheLeast) {
  const HeadBudget& budget = *row_of(Policy::adaspa_heads).heads;
  EXPECT_EQ(budget.cuts({0.5, 0.95, 0.7, 0.6}, 100, false, 0.8), (std::vector<Index>{30, 10, 20, 20}));
  EXPECT_EQ(budget.cuts({0.85, 0.95, 0.9}, 100, false, 0.8), (std::vector<Index>{30, 10, 20}));
  EXPECT_EQ(budget.cuts({0.5, 0.6}, 100, false, 0.8), (std::vector<Index>{20, 20}));
}

}  // namespace
}  // namespace draft
