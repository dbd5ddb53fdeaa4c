// Causal heads in a study: every policy's masks, what is counted, and that all bounds hold.

#include <gtest/gtest.h>

#include "experiments/input/heads.hpp"
#include "experiments/study/metrics.hpp"
#include "reference/attention.hpp"
#include "reference/naive.hpp"

namespace draft {
namespace {

const Grid kText{1, 1, 300, 0, true};
const RegionSize kRegion{1, 16};
constexpr Index kRegions = 19, kBlocks = kRegions * (kRegions + 1) / 2;
// Sums of at most 300 terms of order one; the sweeps and attend() share no summation order.
constexpr double kTolerance = 1e-11;

Problem head() { return naive::random_problem(kText, 16, 1.2, 17); }

/// Of every policy for causal heads, the draft by all its rules and poolings.
std::vector<Cell> causal_cells() {
  std::vector<Cell> cells;
  for (const Policy policy : all_policies()) {
    if (!row_of(policy).causal) continue;
    for (const MaskChoice& choice :
         mask_choices(policy, kRegion, {Pool::average, Pool::maximum},
                      {Rule::logits, Rule::softmax, Rule::released, Rule::row}, {0.5, 0.8})) {
      cells.push_back({choice, true});
      cells.back().region = kRegion;
      cells.push_back(cells.back());
      cells.back().remainder = Remainder::pooled;
    }
  }
  return cells;
}

// Claim: of every policy's mask the recall and the output error are the definition's, blocks are counted on and below
// the diagonal, and all bounds hold, with and without a remainder.
TEST(CausalStudy, MasksMetricsAndBoundsAreCausal) {
  const Problem problem = head();
  const std::vector<Cell> cells = causal_cells();
  ASSERT_GE(cells.size(), 60U);
  const HeadStudy study(problem, cells, {});
  const Partition& partition = study.partition(kRegion);
  const Matrix p = naive::probabilities(problem, naive::seen(kText)), dense = p * problem.v;
  const PooledRows pooled = pooled_rows(problem, partition);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    SCOPED_TRACE(to_string(cells[i].policy) + " " + std::to_string(i));
    const BlockMask& mask = study.mask(i);
    const Metrics metrics = study.metrics(i);
    const bool plain = cells[i].remainder == Remainder::none;
    EXPECT_EQ(mask, causal_mask(mask));
    EXPECT_EQ(metric(metrics, "total_blocks"), static_cast<double>(kBlocks));
    // By row each is rounded; the released rule keeps one more and all ties.
    const Index off = mask.kept_blocks() - kept_count(cells[i].sparsity, kBlocks);
    EXPECT_LE(std::abs(off), kRegions);
    EXPECT_EQ(metric(metrics, "kept_blocks"), static_cast<double>(mask.kept_blocks()));
    const Matrix allowed = naive::allowed(partition, mask);
    EXPECT_NEAR(metric(metrics, "attention_recall"), p.cwiseProduct(allowed).sum() / 300.0, kTolerance);
    const Matrix sparse = attend(problem, partition, mask, plain ? nullptr : &pooled).o;
    EXPECT_NEAR(metric(metrics, "output_rel_l2"), (dense - sparse).norm() / dense.norm(), kTolerance);
    EXPECT_EQ(metric(metrics, "empty_rows"), 0.0);
    EXPECT_TRUE(all_checks_hold(metrics));
  }
}

// Claim: a streaming mask is the first column and a band, whatever the budget.
TEST(CausalStudy, StreamingIsAColumnAndABand) {
  const Ranking ranking = ranking_of(row_of(Policy::streaming_llm), {.regions = kRegions, .causal = true});
  const Index band = 3;
  const BlockMask mask(ranking, kRegions + (kRegions - 1) + (kRegions - 2) + (kRegions - 3));
  for (Index i = 0; i < kRegions; ++i) {
    for (Index j = 0; j < kRegions; ++j) {
      EXPECT_EQ(mask.kept(i, j), j <= i && (j == 0 || i - j < band)) << i << " " << j;
    }
  }
}

// Claim: DuoAttention gives the heads of a call together the blocks of the budget, and the one that streaming harms
// most all of its own where they fit.
TEST(CausalStudy, DuoAttentionSharesTheBudget) {
  const std::vector<Index> cuts = row_of(Policy::duo_attention).heads->cuts({0.1, 0.9, 0.2}, kRegions, true, 0.4);
  EXPECT_EQ(cuts[0] + cuts[1] + cuts[2], 3 * kept_count(0.4, kBlocks));
  EXPECT_EQ(cuts[1], kBlocks);  // 342 blocks for three heads of 190: one whole head fits
}

// Negative control: the same numbers without `causal` give other ones.
TEST(CausalStudy, OpenAttentionIsAnother) {
  Problem problem = head();
  const std::vector<Cell> cells{{{Policy::oracle, {}, {}, kRegion, 0.8}, false}};
  const double causal = metric(HeadStudy(problem, cells, {}).metrics(0), "attention_recall");
  problem.grid.causal = false;
  EXPECT_GT(std::abs(causal - metric(HeadStudy(problem, cells, {}).metrics(0), "attention_recall")), 1e-2);
}

TEST(CausalStudy, WhatDoesNotFitIsRefused) {
  const std::vector<Cell> one_region{{{Policy::oracle, {}, {}, RegionSize{1, 512}, 0.8}, false}};
  EXPECT_THROW(HeadStudy(head(), one_region, {}), UsageError);
  DumpInfo info;
  info.path = "text.h5";
  info.grid = kText;
  EXPECT_THROW(require_not_causal(info, "a kernel"), UsageError);
  info.grid.causal = false;
  EXPECT_NO_THROW(require_not_causal(info, "a kernel"));
}

}  // namespace
}  // namespace draft
