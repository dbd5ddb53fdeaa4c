// The checks with each backend's slack: they hold where a bound is met exactly, and see one that is understated by 1%.
#include "experiments/study/slack.hpp"

#include <gtest/gtest.h>

#include "experiments/study/metrics.hpp"

namespace draft {
namespace {

constexpr Index kRows = 2;  // regions of a frame

/// Two frames of two regions of 2 x 4. Of S, all that matters is the sign: q = (a, 0, ...), k = +-(a, 0, ...), and
/// every |S_uv| = a^2 = 4.
Problem signs(const std::function<double(Index key)>& sign) {
  Problem problem;
  problem.grid = {2, 2, 4 * kRows, 0};
  problem.q = problem.k = problem.v = Matrix::Zero(problem.grid.tokens(), 64);
  problem.q.col(0).setConstant(2.0);
  for (Index key = 0; key < problem.grid.tokens(); ++key) {
    problem.k(key, 0) = 2.0 * sign(key);
    problem.v(key, key % 64) = 1.0;
  }
  problem.scale = 0.125;
  return problem;
}

/// Everything that the metrics of one mask are made from; S~ = 0.
struct Measured {
  Problem problem;
  Partition partition{problem.grid, {2, 4}};
  DraftMap map{Matrix::Zero(partition.regions(), partition.regions()), problem.scale};
  BlockMask mask{partition.regions(), true};
  LogitStats stats;
  PoolingError pooling;
  CoarseRegions coarse;
  MaskSweep sweep;

  Measured(Problem the_problem, const std::function<bool(Index column)>& keeps, Remainder remainder = Remainder::none)
      : problem(std::move(the_problem)), coarse(coarse_regions(problem, partition)) {
    Ranking ranking{partition.regions(), false, {}};
    std::uint32_t kept = 0, dropped = static_cast<std::uint32_t>(partition.regions() * partition.regions());
    for (Index i = 0; i < partition.regions(); ++i) {
      for (Index j = 0; j < partition.regions(); ++j) {
        mask.set(i, j, keeps(j));
        ranking.rank.push_back(keeps(j) ? kept++ : --dropped);
      }
    }
    const Stripes stripes(problem, partition);
    const DeviationRequest request{map.logits, parents(partition, partition)};
    stats = sweep_logits(stripes, std::span(&request, 1), 1);
    pooling = pooling_error(problem, partition, map, Pool::average, stats);
    const std::vector<MaskFamily> families{
        {0, ranking, {static_cast<Index>(kept)}, remainder == Remainder::pooled ? &coarse : nullptr}};
    const std::vector<std::vector<Index>> same{parents(partition, partition)};
    sweep = sweep_masks(stripes, stats.lse, families, same, 1);
  }

  [[nodiscard]] Metrics metrics(const Slack& slack) const {
    const MaskEffect& effect = sweep.effects[0][0];
    std::vector<Index> row_region;
    for (Index i = 0; i < partition.regions(); ++i) row_region.insert(row_region.end(), 8, i);
    const MaskError error = mask_error(effect, longest_row(problem.v), output_rounding(slack, effect));
    const MaskMeasurement measured{problem, partition, mask, effect, sweep.dense, error, slack};
    Metrics metrics;
    append_pooling_metrics(metrics, problem, pooling, stats.deviations[0], slack);
    append_threshold_metrics(metrics, measured, map, pooling, row_region);
    if (effect.remainder) append_remainder_metrics(metrics, measured, true);
    return metrics;
  }
};

std::vector<Slack> slacks(const Problem& problem) {
  return {reference_slack(problem), single_precision_slack(problem)};
}

// Given signs that alternate within each region (deviations are all delta), claim: Theorem 3.3 is met exactly, and a
// delta that is 1% too small fails.
TEST(Slack, Theorem33SeesADeltaUnderstatedByOnePercent) {
  Measured measured(signs([](Index key) { return key % 2 == 0 ? 1.0 : -1.0; }),
                    [](Index column) { return column != 0; });
  ASSERT_EQ(measured.pooling.delta, 4.0);
  for (const Slack& slack : slacks(measured.problem)) {
    EXPECT_EQ(metric(measured.metrics(slack), "tightness_3_3"), 1.0);
    EXPECT_TRUE(all_checks_hold(measured.metrics(slack)));
  }
  measured.pooling.bound *= 0.99;
  for (const Slack& slack : slacks(measured.problem)) EXPECT_EQ(metric(measured.metrics(slack), "check_3_3"), 0.0);
}

// Given kept keys at t - delta and dropped ones at t + delta, all with the pooled value t, claim: step 2 and the sharp
// bounds are met as closely as they can be, and a delta that is 1% too small fails.
TEST(Slack, Step2SeesADeltaUnderstatedByOnePercent) {
  const auto is_dropped = [](Index column) { return column % kRows == 1; };
  Measured measured(signs([&](Index key) { return is_dropped(key % (4 * kRows) / 4) ? 1.0 : -1.0; }),
                    [&](Index column) { return !is_dropped(column); });
  for (const Slack& slack : slacks(measured.problem)) {
    const Metrics metrics = measured.metrics(slack);
    EXPECT_NEAR(metric(metrics, "step_2_max_ratio"), 1.0, 1e-12);
    for (const char* check :
         {"check_3_3", "check_step_1", "check_step_2", "check_3_5", "check_sharp", "check_blocks"}) {
      EXPECT_EQ(metric(metrics, check), 1.0) << check;
    }
  }
  measured.pooling.delta *= 0.99;
  for (const Slack& slack : slacks(measured.problem)) EXPECT_EQ(metric(measured.metrics(slack), "check_step_2"), 0.0);
}

// Claim: an identity and an output bound that are off by 1% fail too.
TEST(Slack, Step1AndOutputsSeeOnePercent) {
  Measured measured(signs([](Index key) { return key % 2 == 0 ? 1.0 : -1.0; }),
                    [](Index column) { return column != 0; });
  MaskEffect& effect = measured.sweep.effects[0][0];
  effect.row_l1_residual += 0.01;
  const double mu = effect.dropped[0];
  effect.output_error[0] = 1.01 * 2.0 * mu;
  for (const Slack& slack : slacks(measured.problem)) {
    EXPECT_EQ(metric(measured.metrics(slack), "check_step_1"), 0.0);
    EXPECT_EQ(metric(measured.metrics(slack), "check_output"), 0.0);
  }
}

// Given a mask with a remainder, claim: its checks hold, and a bound of errors or of recall that is 1% on the wrong
// side of what it bounds fails.
TEST(Slack, RemaindersSeeBoundsThatAreTooLow) {
  Measured measured(
      signs([](Index key) { return key % 2 == 0 ? 1.0 : -1.0; }), [](Index column) { return column != 0; },
      Remainder::pooled);
  const Slack slack = reference_slack(measured.problem);
  const Metrics right = measured.metrics(slack);
  EXPECT_TRUE(all_checks_hold(right));
  RemainderEffect& remainder = *measured.sweep.effects[0][0].remainder;
  const RemainderEffect kept = remainder;
  remainder.bound *= 0.99 * metric(right, "tightness_remainder");
  EXPECT_EQ(metric(measured.metrics(slack), "check_remainder"), 0.0);
  remainder = kept;
  remainder.bound_radii *= 0.99 * metric(right, "tightness_remainder_radii");
  EXPECT_EQ(metric(measured.metrics(slack), "check_remainder_radii"), 0.0);
  remainder = kept;
  remainder.bound_gap *= 0.99 * metric(right, "tightness_remainder_gap");
  EXPECT_EQ(metric(measured.metrics(slack), "check_remainder_gap"), 0.0);
  remainder = kept;
  remainder.recall_bound *= 1.01 / metric(right, "tightness_recall");
  EXPECT_EQ(metric(measured.metrics(slack), "check_recall"), 0.0);
  remainder = kept;
  remainder.row_l1_excess = 0.01;
  EXPECT_EQ(metric(measured.metrics(slack), "check_remainder"), 0.0);
}

// Given logits that are all 0 because k is, and the largest scale and q there are, claim: nothing of the slack is NaN,
// and what allows for the logits' rounding is 0.
TEST(Slack, OfZerosAndTheLargestNumbers) {
  Problem problem = signs([](Index) { return 0.0; });
  problem.q.setConstant(1e300);
  problem.scale = 1.7e308;
  for (const Slack& slack : slacks(problem)) {
    EXPECT_EQ(slack.logit, 0.0);
    EXPECT_EQ(slack.probs_floor, 0.0);
    EXPECT_LE(slack.relative, 1e-4);
    EXPECT_EQ(slack.against_exact, slack.relative);
  }
}

// Claim: the fp32 slack is far below what it must not hide, on a head as large as they come (norms of 3 sqrt(dim)).
TEST(Slack, SinglePrecisionIsWellBelowOnePercent) {
  Problem problem = signs([](Index) { return 1.0; });
  problem.q.setConstant(3.0);
  problem.k.setConstant(3.0);
  const Slack slack = single_precision_slack(problem);
  EXPECT_LE(slack.relative, 1e-4);
  EXPECT_LE(slack.against_exact, 0.01);
  EXPECT_LE(slack.output.noise, 1e-4);
}

}  // namespace
}  // namespace draft
