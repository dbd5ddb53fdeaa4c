// Causal attention: rankings and masks, what a token may see, and the pooled remainder, by their definitions.

#include <gtest/gtest.h>

#include "reference/attention.hpp"
#include "reference/bounds/mask_sweep.hpp"
#include "reference/bounds/sweep_cases.hpp"

namespace draft {
namespace {

const Grid kText{1, 1, 203, 0, true};

/// Blocks of a mask's row that are there to be kept.
Index kept_in_row(const BlockMask& mask, Index row) { return static_cast<Index>(mask.columns(row).size()); }

// Claim: no block above the diagonal, all on it, and as many blocks as the sparsity leaves of those that there are.
TEST(Causal, AMaskKeepsTheDiagonalAndNothingAboveIt) {
  const Problem problem = naive::random_problem(kText, 8, 1.0, 3);
  const Partition partition(kText, RegionSize{1, 8});
  const Index regions = partition.regions(), all = regions * (regions + 1) / 2;
  const DraftMap map = draft_scores(problem, partition, Pool::average);
  for (const Rule rule : {Rule::logits, Rule::softmax, Rule::released, Rule::row}) {
    BlockMask before(regions, false);
    for (const double sparsity : {0.97, 0.9, 0.5, 0.1, 0.0}) {
      const BlockMask mask = select(map, rule, sparsity);
      EXPECT_EQ(mask, causal_mask(mask));
      for (Index i = 0; i < regions; ++i) {
        for (Index j = 0; j < regions; ++j) EXPECT_LE(before.kept(i, j), mask.kept(i, j));
      }
      before = mask;
      if (rule == Rule::logits || rule == Rule::softmax) {
        EXPECT_EQ(mask.kept_blocks(), std::max(kept_count(sparsity, all), regions));
      }
      if (rule == Rule::row) {
        const double share = static_cast<double>(kept_count(sparsity, all)) / static_cast<double>(all);
        for (Index i = 0; i < regions; ++i) {
          const double wanted = std::floor(share * static_cast<double>(i + 1) + 0.5);
          EXPECT_EQ(static_cast<double>(kept_in_row(mask, i)), std::max(wanted, 1.0)) << sparsity << " row " << i;
        }
      }
    }
  }
  EXPECT_EQ(select(map, Rule::softmax, 0.0).kept_blocks(), all);
}

// Claim: of the blocks below the diagonal those with the largest scores are kept, and doing it twice changes nothing.
TEST(Causal, ARankingIsByScore) {
  const Index regions = 9;
  const Matrix scores = naive::random_problem({1, 1, regions, 0}, regions, 1.0, 4).q;
  for (const bool by_row : {false, true}) {
    const Ranking ranking = causal_ranking(rank_blocks(scores, by_row));
    EXPECT_EQ(ranking.rank, causal_ranking(ranking).rank);
    const BlockMask mask(ranking, 22);
    for (Index i = 1; i < regions; ++i) {
      double kept = std::numeric_limits<double>::infinity(), dropped = -kept;
      for (Index j = 0; j < i; ++j) {
        (mask.kept(i, j) ? kept : dropped) =
            mask.kept(i, j) ? std::min(kept, scores(i, j)) : std::max(dropped, scores(i, j));
      }
      EXPECT_GT(kept, dropped);
    }
  }
}

// Claim: the draft map's softmax is over the blocks on and below the diagonal.
TEST(Causal, DraftProbabilitiesSeeNoLaterBlock) {
  const Problem problem = naive::random_problem(kText, 8, 1.0, 5);
  const DraftMap map = draft_scores(problem, Partition(kText, RegionSize{1, 16}), Pool::average);
  const Matrix p = map.probabilities();
  for (Index i = 0; i < p.rows(); ++i) {
    const Eigen::RowVectorXd own = softmax_rows(map.scale * map.logits.row(i).head(i + 1));
    EXPECT_LE((p.row(i).head(i + 1) - own).cwiseAbs().maxCoeff(), 1e-15);
    EXPECT_EQ(p.row(i).tail(p.cols() - i - 1).cwiseAbs().sum(), 0.0);
  }
}

// Claim: what comes later changes no bit of an earlier token's output, also with a remainder. Negative control: without
// `causal` it does.
TEST(Causal, ALaterTokenChangesNoEarlierOutput) {
  Problem problem = naive::random_problem(kText, 8, 1.0, 6);
  const Partition partition(kText, RegionSize{1, 16});
  const BlockMask mask = select(draft_scores(problem, partition, Pool::average), Rule::softmax, 0.6);
  const auto first_half = [&](bool causal) {
    Problem here = problem;
    here.grid.causal = causal;
    const Partition own(here.grid, RegionSize{1, 16});
    const PooledRows pooled = pooled_rows(here, own);
    return attend(here, own, causal ? mask : BlockMask(own.regions(), true), causal ? &pooled : nullptr)
        .o.topRows(100)
        .eval();
  };
  const Matrix before = first_half(true), open = first_half(false);
  problem.k.bottomRows(100) *= -2.0;
  problem.v.bottomRows(100) *= 3.0;
  EXPECT_EQ(before, first_half(true));
  EXPECT_GT(naive::distance(open, first_half(false)), 1e-3);
}

// Claim: with a remainder outputs, errors and bounds are those of attention whose dropped logits are means, and each
// bound holds; the recall's lower bound too.
TEST(Causal, TheRemainderIsItsDefinition) {
  for (const double spread : {0.5, 2.0}) {
    const naive::PartitionedHead s({kText, {{1, 16}, {1, 24}}, spread}, 41);
    std::vector<CoarseRegions> coarse;
    std::vector<MaskFamily> families;
    for (const Partition& partition : s.partitions) coarse.push_back(coarse_regions(s.problem, partition));
    for (std::size_t p = 0; p < s.partitions.size(); ++p) {
      const DraftMap map = draft_scores(s.problem, s.partitions[p], Pool::average);
      families.push_back({p, rank_by_rule(map, Rule::logits), {1, 30, 40}, &coarse[p]});
    }
    const Stripes stripes(s.problem, s.atoms[0]);
    const MaskSweep sweep = sweep_masks(stripes, sweep_logits(stripes, {}, 2).lse, families, s.parent, 2);
    const Matrix p = naive::probabilities(s.problem, naive::seen(kText)), dense = p * s.problem.v;
    for (std::size_t f = 0; f < families.size(); ++f) {
      for (std::size_t m = 0; m < families[f].cuts.size(); ++m) {
        const BlockMask mask(families[f].ranking, families[f].cuts[m]);
        const Partition& partition = s.partitions[f];
        const Matrix allowed = naive::allowed(partition, mask);
        const Matrix pp = softmax_rows(naive::remainder_logits(s.problem, partition, mask)), sparse = pp * s.problem.v;
        const PooledRows pooled = pooled_rows(s.problem, partition);
        EXPECT_LE(naive::distance(attend(s.problem, partition, mask, &pooled).o, sparse), naive::kSweepTolerance);
        const MaskEffect& effect = sweep.effects[f][m];
        for (Index u = 0; u < kText.tokens(); ++u) {
          const double apart = (p.row(u) - pp.row(u)).lpNorm<1>(), slack = naive::kSweepTolerance;
          EXPECT_CLOSE(effect.probs_error[u], (p.row(u) - pp.row(u)).norm());
          EXPECT_CLOSE(effect.output_error[u], (dense.row(u) - sparse.row(u)).norm());
          EXPECT_CLOSE(effect.kept[u], p.row(u).dot(allowed.row(u)));
          EXPECT_LE(apart, 2.0 * effect.remainder->bound[u] + slack);
          EXPECT_LE(effect.remainder->bound[u], effect.remainder->bound_radii[u] + slack);
          EXPECT_LE(apart, 2.0 * effect.remainder->bound_gap[u] + std::sqrt(slack));
          EXPECT_LE(effect.remainder->recall_bound[u], effect.kept[u] + slack);
          if (effect.dropped[u] == 0.0) {
            EXPECT_CLOSE(effect.remainder->recall_bound[u], 1.0);
          }
        }
        EXPECT_GT((dense - sparse).norm(), 1e-3);  // there is something to bound
      }
    }
  }
}

TEST(Causal, WantsOneRowOfTokens) {
  EXPECT_THROW(require_valid(Grid{2, 1, 4, 0, true}), std::invalid_argument);
  EXPECT_THROW(require_valid(Grid{1, 1, 4, 1, true}), std::invalid_argument);
  EXPECT_NO_THROW(require_valid(Grid{1, 1, 4, 0, true}));
}

}  // namespace
}  // namespace draft
