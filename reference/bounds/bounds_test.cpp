#include "reference/bounds/bounds.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "reference/naive.hpp"

namespace draft {
namespace {

/// One head, one mask, everything that the bounds need.
struct Measured {
  Measured(Problem p, RegionSize region, Rule rule, double sparsity, Pool pooled = Pool::average)
      : problem(std::move(p)),
        partition(problem.grid, region),
        pool(pooled),
        map(draft_scores(problem, partition, pool)),
        mask(select(map, rule, sparsity)) {
    const std::vector<std::vector<Index>> same{parents(partition, partition)};
    const Stripes stripes(problem, partition);
    stats = sweep_logits(stripes, {}, 1);
    const std::vector<MaskFamily> families{{0, rank_by_rule(map, rule), {rule_cut(map, rule, sparsity)}}};
    effect = sweep_masks(stripes, stats.lse, families, same, 1).effects[0][0];
    for (Index r = 0; r < partition.regions(); ++r) {
      row_region.insert(row_region.end(), static_cast<std::size_t>(partition.size(r)), r);
    }
    pooling.push_back(pooling_error(problem, partition, map, pool, stats));
  }
  [[nodiscard]] ThresholdBounds bounds() const {
    return threshold_bounds(partition, map, pooling[0], mask, effect, row_region);
  }
  Problem problem;
  Partition partition;
  Pool pool;
  DraftMap map;
  BlockMask mask;
  LogitStats stats;
  MaskEffect effect;
  std::vector<Index> row_region;
  std::vector<PoolingError> pooling;
};

/// Smooth in space and time, as video features are: each region's tokens lie near one vector.
Problem smooth_problem(const Grid& grid, RegionSize region, double noise, unsigned seed) {
  Problem problem = naive::random_problem(grid, 8, noise, seed);
  const Partition partition(grid, region);
  const Problem centres = naive::random_problem({1, 1, partition.regions(), 0}, 8, 1.0, seed + 1);
  const std::vector<Index> of = partition.region_of_token();
  for (Index u = 0; u < grid.video(); ++u) {
    problem.q.row(u) += centres.q.row(of[u]);
    problem.k.row(u) += centres.k.row(of[u]);
  }
  return problem;
}

// Claim: both theorems and every sharper bound hold, for every rule and pooling, from smooth to rough data, and the
// bounds are ordered: sharp_mu <= blocks <= radii, sharp <= trivial, sharp = eq. 10 / sqrt(2).
TEST(Bounds, HoldInTheirOrder) {
  const Grid video{2, 9, 11, 3}, text{1, 1, 131, 0, true};
  for (const auto& [grid, region] : {std::pair{video, RegionSize{4, 4}}, std::pair{text, RegionSize{1, 8}}}) {
    for (const double noise : {0.01, 0.3, 2.0}) {
      for (const Rule rule : {Rule::logits, Rule::softmax, Rule::released, Rule::row}) {
        for (const Pool pool : {Pool::average, Pool::maximum}) {
          for (const double sparsity : {0.2, 0.5, 0.9}) {
            const Measured s(smooth_problem(grid, region, noise, 9), region, rule, sparsity, pool);
            const MaskError error = mask_error(s.problem, s.effect);
            const ThresholdBounds bounds = s.bounds();
            constexpr double kRounding = 1.0 + 1e-12;
            EXPECT_LE(s.pooling[0].frobenius, s.pooling[0].bound * kRounding);
            EXPECT_LE(s.pooling[0].delta, s.pooling[0].delta_radii * kRounding);
            EXPECT_LE(error.probs_frobenius, error.bound_sharp_mu * kRounding);
            EXPECT_LE(error.bound_sharp_mu, error.step_1_bound * kRounding);
            EXPECT_LE(error.bound_sharp_mu, bounds.bound_blocks * kRounding);
            EXPECT_LE(bounds.bound_blocks, bounds.bound_radii * kRounding);
            EXPECT_LE(error.bound_sharp_mu, bounds.bound_sharp * kRounding);
            EXPECT_LE(bounds.bound_sharp, error.trivial_bound * kRounding);
            EXPECT_LE(error.step_1_bound, bounds.bound * kRounding);
            EXPECT_LE(bounds.bound, bounds.bound_paper_delta * kRounding);
            EXPECT_NEAR(bounds.bound_sharp * std::sqrt(2.0), bounds.bound, 1e-12 * bounds.bound);
            EXPECT_LE(bounds.step_2_ratio, kRounding);
            EXPECT_LE(error.output_ratio_max, kRounding);
          }
        }
      }
    }
  }
}

// Given logits +-1 about a pooled 0 everywhere, claim: delta = 1 and Theorem 3.3 is tight.
TEST(Bounds, PoolingErrorByHand) {
  Problem problem;
  problem.grid = {1, 1, 4, 0};
  problem.scale = 1.0;
  problem.q = (Matrix(4, 1) << 1, -1, 1, -1).finished();
  problem.k = problem.q;
  problem.v = Matrix::Ones(4, 1);
  const Measured s(problem, RegionSize{1, 2}, Rule::row, 0.5);
  EXPECT_EQ(s.pooling[0].delta, 1.0);
  EXPECT_EQ(s.pooling[0].frobenius, 4.0);
  EXPECT_EQ(s.pooling[0].bound, 4.0);
  EXPECT_EQ(s.pooling[0].delta_radii, 1.0);  // |Q~| = |K~| = 0, radii 1: 1 x 1
  EXPECT_EQ(s.pooling[0].half_block_share, 1.0);
}

// Given all logits equal and half of the columns kept, claim by hand: mu = 1/2, delta = 0, s = 1/2, so that
// eq. 10 gives 2 sqrt(n) / 2 and step 2 is an equality.
TEST(Bounds, ConstantHeadByHand) {
  Problem problem;
  problem.grid = {2, 2, 2, 0};
  problem.scale = 1.0;
  problem.q = problem.k = Matrix::Ones(8, 2);
  problem.v = Matrix::Random(8, 2);
  const Measured s(problem, RegionSize{2, 2}, Rule::row, 0.5);
  EXPECT_EQ(kept_tokens(s.partition, s.mask).smallest, 0.5);
  const MaskError error = mask_error(s.problem, s.effect);
  EXPECT_NEAR(error.max_dropped, 0.5, 1e-15);
  // P = 1/8 everywhere; P^M = 1/4 on half: ||.||_F = sqrt(8 * 8 / 64).
  EXPECT_NEAR(error.probs_frobenius, 1.0, 1e-14);
  EXPECT_NEAR(s.bounds().bound, std::sqrt(8.0), 1e-14);
  EXPECT_NEAR(s.bounds().bound_blocks, std::sqrt(2.0 * 8.0 * 0.25), 1e-14);
  EXPECT_NEAR(s.bounds().step_2_ratio, 1.0, 1e-14);
}

// Given a row that keeps nothing, claim: s = 0, both closed bounds have their largest possible values, mu = 1 and
// nothing is NaN.
TEST(Bounds, EmptyRowsReachTheCeiling) {
  const Grid grid{2, 4, 4, 0};
  Problem problem = naive::random_problem(grid, 4, 0.1, 2);
  problem.q.topRows(16).col(0).setConstant(-5.0);
  problem.k.col(0).setConstant(5.0);
  const Measured s(problem, RegionSize{4, 4}, Rule::logits, 0.5);
  ASSERT_EQ(s.mask.empty_rows(), 1);
  const MaskError error = mask_error(s.problem, s.effect);
  // 32 columns, each exp of a logit of size 50: 32 + 50 roundings.
  EXPECT_NEAR(error.max_dropped, 1.0, 82 * std::numeric_limits<double>::epsilon());
  EXPECT_EQ(s.bounds().bound, 2.0 * std::sqrt(32.0));
  EXPECT_EQ(s.bounds().bound_sharp, error.trivial_bound);
  EXPECT_LE(s.bounds().step_2_ratio, 1.0 + 1e-14);
  EXPECT_LE(error.probs_frobenius, error.bound_sharp_mu);
}

TEST(Bounds, TheFullMaskHasNoError) {
  const Measured s(naive::random_problem({1, 8, 8, 2}, 4, 1.0, 2), RegionSize{4, 4}, Rule::row, 0.0);
  EXPECT_EQ(mask_error(s.problem, s.effect).probs_frobenius, 0.0);
  EXPECT_EQ(s.bounds().bound, 0.0);
  EXPECT_EQ(s.bounds().bound_blocks, 0.0);
  EXPECT_EQ(s.bounds().step_2_ratio, 0.0);
}

// Negative control: on a smooth head a mask that keeps the worst blocks violates eq. 10, so that a bound that holds is
// not trivial.
TEST(Bounds, AMaskThatDoesNotThresholdTheMapBreaksThem) {
  const Grid grid{4, 4, 8, 0};
  const RegionSize region{4, 4};
  Problem problem = smooth_problem(grid, region, 0.001, 3);
  problem.q *= 3.0;
  Measured s(problem, region, Rule::row, 0.5);
  Ranking worst = rank_by_rule(s.map, Rule::row);
  for (std::uint32_t& rank : worst.rank) rank = 7 - rank;
  s.mask = BlockMask(worst, 4);
  const std::vector<MaskFamily> families{{0, worst, {4}}};
  const std::vector<std::vector<Index>> same{parents(s.partition, s.partition)};
  s.effect = sweep_masks(Stripes(s.problem, s.partition), s.stats.lse, families, same, 1).effects[0][0];
  EXPECT_GT(mask_error(s.problem, s.effect).step_1_bound, s.bounds().bound);
  EXPECT_GT(s.bounds().step_2_ratio, 1.0);
  EXPECT_LE(mask_error(s.problem, s.effect).probs_frobenius, mask_error(s.problem, s.effect).bound_sharp_mu);
}

}  // namespace
}  // namespace draft
