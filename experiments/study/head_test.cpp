#include "experiments/study/head.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "experiments/study/metrics.hpp"
#include "experiments/study/test_cells.hpp"
#include "reference/attention.hpp"
#include "reference/naive.hpp"

namespace draft {
namespace {

// Both sides are sums of 1e5 rounded terms of order one; the sweeps and attend() share no summation order.
constexpr double kTolerance = 1e-11;

const Problem& head() {
  static const Problem problem = naive::random_problem({2, 9, 20, 4}, 16, 1.2, 17);
  return problem;
}

// Claim: the output error in the one pass is that of attend() under the mask that select() gives.
TEST(HeadStudy, OutputErrorsAreThoseOfAttend) {
  const RegionSize region{4, 8};
  const std::vector<Cell> cells = all_cells({region});
  HeadStudy study(head(), cells, {});
  const Partition partition(head().grid, region);
  const Matrix dense = attend_dense(head()).o.topRows(head().grid.video());
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (cells[i].policy == Policy::draft) {
      const DraftMap map = draft_scores(head(), partition, cells[i].pool);
      EXPECT_EQ(study.mask(i), select(map, cells[i].rule, cells[i].sparsity));
    }
    const Matrix sparse = attend(head(), partition, study.mask(i)).o.topRows(head().grid.video());
    const Metrics metrics = study.metrics(i);
    EXPECT_NEAR(metric(metrics, "output_rel_l2"), (dense - sparse).norm() / dense.norm(), kTolerance);
    EXPECT_NEAR(metric(metrics, "output_rel_l1"), (dense - sparse).lpNorm<1>() / dense.lpNorm<1>(), kTolerance);
    EXPECT_TRUE(all_checks_hold(metrics));
  }
}

// Claim: cells of several region sizes measured together are what each gives alone.
TEST(HeadStudy, RegionSizesTogetherAreRegionSizesAlone) {
  const std::vector<Cell> together = all_cells({{4, 8}, {8, 16}, {3, 7}});
  HeadStudy all(head(), together, {});
  for (std::size_t first = 0; first < together.size(); first += 20) {
    HeadStudy one(head(),
                  {together.begin() + static_cast<std::ptrdiff_t>(first),
                   together.begin() + static_cast<std::ptrdiff_t>(first) + 20},
                  {});
    for (std::size_t i = 0; i < 20; ++i) {
      const Metrics found = all.metrics(first + i), wanted = one.metrics(i);
      ASSERT_EQ(found.size(), wanted.size());
      for (std::size_t m = 0; m < found.size(); ++m) {
        EXPECT_EQ(found[m].first, wanted[m].first);
        ASSERT_EQ(found[m].second.applicable(), wanted[m].second.applicable()) << found[m].first;
        if (!wanted[m].second.applicable()) continue;
        const double one_number = wanted[m].second.number();
        EXPECT_LE(std::abs(found[m].second.number() - one_number), kTolerance * (1.0 + std::abs(one_number)))
            << found[m].first;
      }
    }
  }
}

// Claim: the oracle keeps at least as much mass as any mask of its budget, and random keeps about its share.
TEST(HeadStudy, OracleIsTheUpperEnd) {
  HeadStudy study(head(), all_cells({{4, 8}}), {});
  for (const std::size_t half : {0, 10}) {
    const double oracle = metric(study.metrics(half + 8), "attention_recall");
    for (const std::size_t other : {0, 1, 4, 5, 9}) {  // same count: logits, softmax, random
      EXPECT_GE(oracle + kTolerance, metric(study.metrics(half + other), "attention_recall"));
    }
  }
}

// Given policies with and without an order of blocks, at two sparsities in one study, claim: each cell has its policy's
// own mask, and the output error of attend() under it.
TEST(HeadStudy, EveryPolicysMasksAreMeasured) {
  const RegionSize region{4, 8};
  std::vector<Cell> cells;
  for (const Policy policy : all_policies()) {
    if (row_of(policy).layout == BlockLayout::clusters) continue;  // its blocks are no regions: below
    for (const double sparsity : {0.5, 0.8}) {
      cells.push_back({{policy, Pool::maximum, Rule::row, region, sparsity}, false});
    }
  }
  const HeadStudy earlier(naive::random_problem(head().grid, 16, 1.2, 18), {}, {}, {region});
  HeadStudy study(head(), cells, {.seed = 3, .stream = 2, .earlier = &earlier});
  const Partition partition(head().grid, region);
  const DraftMap map = draft_scores(head(), partition, Pool::maximum);
  const Matrix dense = attend_dense(head()).o.topRows(head().grid.video());
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const PolicyInput input{.regions = partition.regions(),
                            .seed = 3,
                            .stream = 2,
                            .map = &map,
                            .rule = Rule::row,
                            .grid = &head().grid,
                            .problem = &head(),
                            .partition = &partition,
                            .mass = &study.stats(region).mass,
                            .earlier_mass = &earlier.stats(region).mass};
    EXPECT_EQ(study.mask(i), mask_of(cells[i].policy, input, cells[i].sparsity)) << to_string(cells[i].policy);
    const Matrix sparse = attend(head(), partition, study.mask(i)).o.topRows(head().grid.video());
    EXPECT_NEAR(metric(study.metrics(i), "output_rel_l2"), (dense - sparse).norm() / dense.norm(), kTolerance)
        << to_string(cells[i].policy);
  }
}

// Given queries and keys in clusters of their own, claim: the outputs are those of attend() with every pair of clusters
// kept or dropped as a whole, no more logits than the budget has, and a denser mask keeps what a sparser one keeps.
TEST(HeadStudy, PairsOfClustersAreMeasuredAsTheyAre) {
  const Problem problem = naive::random_problem({2, 24, 40, 4}, 16, 1.2, 17);
  const PolicyInput as_dumped{.seed = 3, .stream = 2, .problem = &problem};
  const Clusters clusters = row_of(Policy::svg2).find_clusters(as_dumped);
  const Problem moved = in_clusters(problem, clusters);
  const std::vector<double> sparsities{0.4, 0.7};
  std::vector<Cell> cells;
  for (const double sparsity : sparsities) cells.push_back({{Policy::svg2, {}, {}, kRowOfTokens, sparsity}, false});
  HeadStudy study(moved, cells, {.grid = &problem.grid, .clusters = &clusters});
  const Partition pieces = pieces_of(clusters, problem.grid);
  const std::vector<Index> query_of = cluster_of_pieces(pieces, clusters.query_starts);
  const std::vector<Index> key_of = cluster_of_pieces(pieces, clusters.key_starts);
  EXPECT_EQ(query_of.back() + 1, static_cast<Index>(clusters.query_starts.size()));
  EXPECT_EQ(key_of.back() + 1, static_cast<Index>(clusters.key_starts.size()));
  const Matrix dense = reorder(attend_dense(problem).o, clusters.queries).topRows(problem.grid.video());
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const BlockMask& mask = study.mask(i);
    std::map<std::pair<Index, Index>, bool> of_pair;
    for (Index row = 0; row < pieces.regions(); ++row) {
      for (Index column = 0; column < pieces.regions(); ++column) {
        const auto pair = std::pair{query_of[static_cast<std::size_t>(row)], key_of[static_cast<std::size_t>(column)]};
        EXPECT_EQ(of_pair.emplace(pair, mask.kept(row, column)).first->second, mask.kept(row, column));
        EXPECT_TRUE(i == 0 || !mask.kept(row, column) || study.mask(i - 1).kept(row, column));
      }
    }
    const Matrix sparse = attend(moved, pieces, mask).o.topRows(problem.grid.video());
    EXPECT_NEAR(metric(study.metrics(i), "output_rel_l2"), (dense - sparse).norm() / dense.norm(), kTolerance);
    EXPECT_LE(metric(study.metrics(i), "kept_area"), 1.0 - sparsities[i] + kTolerance);
    EXPECT_GT(metric(study.metrics(i), "kept_area"), 0.0);
  }
}

TEST(HeadStudy, AnEarlierStepThatIsWantedIsThere) {
  EXPECT_THROW(HeadStudy(head(), {{{Policy::adaspa, {}, {}, {4, 8}, 0.5}, false}}, {}), std::invalid_argument);
}

// Given each cell with and without a remainder in one study, claim: those without it are, bit by bit, what they are
// alone; those with it have the same mask, the output error of attend() with it, and bounds that hold.
TEST(HeadStudy, RemaindersAreMeasuredBesideTheirMasks) {
  const RegionSize region{4, 8};
  const std::vector<Cell> plain = all_cells({region});
  std::vector<Cell> both = plain;
  for (Cell cell : plain) {
    cell.remainder = Remainder::pooled;
    both.push_back(cell);
  }
  HeadStudy alone(head(), plain, {}), study(head(), both, {});
  const Partition partition(head().grid, region);
  const PooledRows rows = pooled_rows(head(), partition);
  const Matrix dense = attend_dense(head()).o.topRows(head().grid.video());
  for (std::size_t i = 0; i < plain.size(); ++i) {
    const Metrics found = study.metrics(i), wanted = alone.metrics(i);
    ASSERT_EQ(found.size(), wanted.size());
    for (std::size_t m = 0; m < found.size(); ++m) EXPECT_EQ(found[m], wanted[m]) << found[m].first;
    const std::size_t pooled = i + plain.size();
    EXPECT_EQ(study.mask(pooled), study.mask(i));
    const Matrix sparse = attend(head(), partition, study.mask(pooled), &rows).o.topRows(head().grid.video());
    const Metrics metrics = study.metrics(pooled);
    EXPECT_NEAR(metric(metrics, "output_rel_l2"), (dense - sparse).norm() / dense.norm(), kTolerance);
    EXPECT_EQ(metric(metrics, "attention_recall"), metric(wanted, "attention_recall"));
    EXPECT_LE(metric(metrics, "bound_remainder"), metric(metrics, "bound_remainder_radii"));
    EXPECT_LE(metric(metrics, "bound_remainder_radii"), metric(metrics, "bound_sharp_mu"));
    EXPECT_LE(metric(metrics, "recall_bound"), metric(metrics, "attention_recall"));
    EXPECT_TRUE(all_checks_hold(metrics));
  }
}

TEST(HeadStudy, HeadsGetDifferentRandomMasks) {
  const std::vector<Cell> cells{{{Policy::random, {}, {}, {4, 8}, 0.5}, false}};
  EXPECT_NE(HeadStudy(head(), cells, {1, 0, 0, {}}).mask(0), HeadStudy(head(), cells, {1, 1, 0, {}}).mask(0));
  EXPECT_EQ(HeadStudy(head(), cells, {1, 0, 1, {}}).mask(0), HeadStudy(head(), cells, {1, 0, 2, {}}).mask(0));
}

TEST(HeadStudy, AViolatedBoundIsSeen) {
  EXPECT_TRUE(all_checks_hold({{"check_3_3", 1.0}, {"delta_logits", 0.0}}));
  EXPECT_FALSE(all_checks_hold({{"check_3_3", 1.0}, {"check_3_5", 0.0}}));
  EXPECT_TRUE(all_checks_hold({{"check_3_3", 1.0}, {"check_3_5", MetricValue::not_applicable()}}));
}

TEST(HeadStudy, NothingToMeasureIsRefused) {
  EXPECT_THROW(HeadStudy(head(), {}, {}), std::invalid_argument);
  HeadStudy study(head(), {{{Policy::random, {}, {}, {4, 8}, 0.5}, false}}, {});
  EXPECT_THROW(static_cast<void>(study.stats({8, 8})), std::invalid_argument);
}

}  // namespace
}  // namespace draft
