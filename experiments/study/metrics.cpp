#include "experiments/study/metrics.hpp"

#include <algorithm>
#include <cmath>

#include "harness/numbers/quantile.hpp"
#include "reference/norm.hpp"

namespace draft {
namespace {

/// 1 if left <= right within rounding; 0 otherwise and on NaN. Not applicable where rounding alone may double a side:
/// such a check could not fail.
MetricValue held(double left, double right, double relative, double floor = 0.0) {
  if (relative >= 1.0) return MetricValue::not_applicable();
  return left <= right * (1.0 + relative) + floor ? 1.0 : 0.0;
}

/// Both checks in one flag: 0 if one of them is, else not applicable if one of them is.
MetricValue both_held(const MetricValue& a, const MetricValue& b) {
  if (a == 0.0 || b == 0.0) return 0.0;
  return a.applicable() ? b : a;
}

/// left / right, at most 1 where the bound holds to rounding; not applicable where rounding leaves it open.
MetricValue tightness(double left, double right, const MetricValue& check) {
  const MetricValue found = ratio(left, right);
  if (!found.applicable() || !(found.number() > 1.0)) return found;
  if (!check.applicable()) return check;
  return check == 1.0 ? 1.0 : found;
}

/// 20 log10 of peak over root mean square error; nothing to compare if either is 0.
MetricValue psnr(double peak, double error_norm, double values) {
  if (peak == 0.0 || error_norm == 0.0) return MetricValue::not_applicable();
  return 20.0 * (std::log10(peak) - std::log10(error_norm)) + 10.0 * std::log10(values);
}

}  // namespace

double kept_area(const Partition& partition, const BlockMask& mask) {
  const Vector fractions = kept_tokens(partition, mask).kept_fraction;
  double rows = 0.0;
  for (Index i = 0; i < partition.regions(); ++i) rows += fractions[i] * static_cast<double>(partition.size(i));
  return rows / static_cast<double>(partition.offset(partition.regions()));
}

void append_mask_metrics(Metrics& metrics, const MaskMeasurement& m) {
  const Vector& recall = m.effect.kept;
  const double values = static_cast<double>(m.problem.grid.video() * m.problem.v.cols());
  const double output_error = safe_norm(m.effect.output_error);
  const double peak = std::max(std::abs(m.dense.lowest), std::abs(m.dense.highest));
  const MaskError& error = m.error;
  metrics.insert(metrics.end(),
                 {
                     {"attention_recall", recall.mean()},
                     {"attention_recall_p05", quantile({recall.begin(), recall.end()}, 0.05)},
                     {"attention_recall_min", recall.minCoeff()},
                     {"max_dropped_mass", error.max_dropped},
                     {"mean_dropped_mass", error.mean_dropped},
                     {"min_kept_fraction", kept_tokens(m.partition, m.mask).smallest},
                     {"kept_blocks", static_cast<double>(m.mask.kept_blocks())},
                     {"total_blocks", static_cast<double>(block_count(m.partition.regions(), m.problem.grid.causal))},
                     {"empty_rows", static_cast<double>(m.mask.empty_rows())},
                     {"probs_frobenius", error.probs_frobenius},
                     {"trivial_bound", error.trivial_bound},
                     {"output_rel_l2", ratio(output_error, m.dense.norm)},
                     {"output_rel_l1", ratio(m.effect.output_error1, m.dense.absolute)},
                     {"output_cosine", ratio(m.effect.output_dot, m.dense.norm * m.effect.output_norm)},
                     {"output_psnr", psnr(peak, output_error, values)},
                 });
}

void append_mask_bound_metrics(Metrics& metrics, const MaskMeasurement& m) {
  const MaskError& error = m.error;
  const Slack& slack = m.slack;
  const MetricValue check_output = held(error.output_judged_max, 1.0, slack.relative);
  const bool has_values = longest_row(m.problem.v) > 0.0;
  const MetricValue check_frobenius =
      held(error.probs_frobenius, error.step_1_bound, slack.relative, slack.probs_floor);
  metrics.emplace_back("step_1_row_l1_max", m.effect.row_l1_max);
  // ||P_u - P^M_u||_1 = 2 mu_u is an identity, of numbers of order one, where dropped blocks have no remainder.
  const bool is_identity = !m.effect.remainder;
  if (is_identity) metrics.emplace_back("step_1_residual", m.effect.row_l1_residual);
  metrics.insert(
      metrics.end(),
      {
          {"step_1_rows_checked", static_cast<double>(m.effect.rows_checked)},
          {"step_1_bound", error.step_1_bound},
          {"bound_sharp_mu", error.bound_sharp_mu},
          {"output_error_max", m.units.of_values(error.output_error_max)},
          {"output_bound_max_ratio",
           has_values ? tightness(error.output_ratio_max, 1.0, check_output) : MetricValue::not_applicable()},
          {"check_step_1",
           is_identity ? both_held(held(m.effect.row_l1_residual, 0.0, slack.relative, slack.identity), check_frobenius)
                       : check_frobenius},
          {"check_sharp_mu", held(error.probs_frobenius, error.bound_sharp_mu, slack.relative, slack.probs_floor)},
          {"check_output", check_output},
      });
}

void append_pooling_metrics(Metrics& metrics, const Problem& problem, const PoolingError& pooling,
                            const LogHistogram& deviations, const Slack& slack, Units units) {
  const double n = static_cast<double>(problem.grid.video());
  const MetricValue check = held(pooling.frobenius, pooling.bound, slack.deviation, n * slack.logit);
  const double over = (pooling.block_delta - pooling.block_radii * (1.0 + slack.deviation)).maxCoeff();
  const MetricValue check_radii = held(over, 0.0, slack.deviation, slack.logit);
  const auto quantile = [&](double p) { return units.of_logits(deviations.quantile(p)); };
  metrics.insert(metrics.end(), {
                                    {"delta_logits", units.of_logits(pooling.delta)},
                                    {"delta_scaled", pooling.delta * problem.scale},
                                    {"delta_p50", quantile(0.5)},
                                    {"delta_p90", quantile(0.9)},
                                    {"delta_p99", quantile(0.99)},
                                    {"delta_p999", quantile(0.999)},
                                    {"logits_rms_deviation", units.of_logits(pooling.frobenius / n)},
                                    {"logits_frobenius", units.of_logits(pooling.frobenius)},
                                    {"bound_3_3", units.of_logits(pooling.bound)},
                                    {"tightness_3_3", tightness(pooling.frobenius, pooling.bound, check)},
                                    {"delta_block_row", static_cast<double>(pooling.block_row)},
                                    {"delta_block_column", static_cast<double>(pooling.block_column)},
                                    {"delta_half_block_share", pooling.half_block_share},
                                    {"delta_radii", units.of_logits(pooling.delta_radii)},
                                    {"radii_tightness", tightness(pooling.delta, pooling.delta_radii, check_radii)},
                                    {"check_3_3", check},
                                    {"check_radii_delta", check_radii},
                                });
}

void append_threshold_metrics(Metrics& metrics, const MaskMeasurement& m, const DraftMap& map,
                              const PoolingError& pooling, const std::vector<Index>& row_region) {
  append_mask_bound_metrics(metrics, m);
  const double left = m.error.probs_frobenius;
  const double relative = m.slack.relative, floor = m.slack.probs_floor;
  const ThresholdBounds bounds = threshold_bounds(m.partition, map, pooling, m.mask, m.effect, row_region, m.units);
  const auto if_thresholds = [&](MetricValue value) {
    return bounds.thresholds ? value : MetricValue::not_applicable();
  };
  const MetricValue check_bound = held(left, bounds.bound, relative, floor);
  const MetricValue check_step_2 = held(bounds.step_2_ratio, 1.0, relative);
  metrics.insert(
      metrics.end(),
      {
          {"bound_3_5", bounds.bound},
          {"bound_3_5_paper_delta", bounds.bound_paper_delta},
          {"vacuity_3_5", bounds.bound / m.error.trivial_bound},
          {"tightness_3_5", if_thresholds(tightness(left, bounds.bound, check_bound))},
          {"bound_sharp", bounds.bound_sharp},
          {"bound_blocks", bounds.bound_blocks},
          {"bound_radii", bounds.bound_radii},
          {"step_2_max_ratio", if_thresholds(tightness(bounds.step_2_ratio, 1.0, check_step_2))},
          {"check_step_2", if_thresholds(check_step_2)},
          {"check_3_5", if_thresholds(both_held(check_bound, held(left, bounds.bound_paper_delta, relative, floor)))},
          {"check_sharp", if_thresholds(held(left, bounds.bound_sharp, relative, floor))},
          {"check_blocks", held(left, bounds.bound_blocks, relative, floor)},
          {"check_radii", held(left, bounds.bound_radii, m.slack.against_exact, floor)},
      });
}

OutputRounding output_rounding(const Slack& slack, const MaskEffect& effect) {
  OutputRounding rounding = slack.output;
  if (effect.remainder) {
    // Its weights are exp of a mean of logs, which rounds like a logit. Where a block's keys are equal its bound is 0.
    rounding.ignored += slack.relative;
    rounding.noise += slack.relative;
  }
  return rounding;
}

void append_remainder_metrics(Metrics& metrics, const MaskMeasurement& m, bool with_bounds) {
  const auto tokens = static_cast<double>(m.problem.grid.video());
  const auto regions = static_cast<double>(m.partition.regions());
  // Logits on mean keys and a product with mean values, 4 tokens regions head_dim, and the sums that make them,
  // 2 tokens head_dim, beside 4 tokens^2 head_dim.
  // Causal: 2 tokens (regions - 1) head_dim and as much for the sums, beside 2 tokens (tokens + 1) head_dim.
  metrics.emplace_back("remainder_flops_share",
                       m.problem.grid.causal ? regions / (tokens + 1.0) : (regions + 0.5) / tokens);
  if (!with_bounds) return;
  const RemainderEffect& remainder = *m.effect.remainder;
  const Slack& slack = m.slack;
  const double left = m.error.probs_frobenius;
  const double bound = std::sqrt(2.0) * safe_norm(remainder.bound);
  const double bound_radii = std::sqrt(2.0) * safe_norm(remainder.bound_radii);
  // A row's pooled weights sum to at most mu_u and are off by slack.relative of themselves.
  const double floor = slack.probs_floor + slack.relative * m.error.bound_sharp_mu;
  const MetricValue check = both_held(held(remainder.row_l1_excess, 0.0, slack.relative, 2.0 * slack.identity),
                                      held(left, bound, slack.relative, floor));
  const double bound_gap = std::sqrt(2.0) * safe_norm(remainder.bound_gap);
  // A row's gap is a difference that is off by slack.relative of mu_u, and the bound is its root.
  const double gap_floor = std::sqrt(2.0 * slack.relative * m.effect.dropped.sum());
  const MetricValue check_gap = held(left, bound_gap, slack.relative, floor + gap_floor);
  const MetricValue check_radii = held(left, bound_radii, slack.against_exact, floor);
  const double recall_over = (remainder.recall_bound - m.effect.kept * (1.0 + slack.against_exact)).maxCoeff();
  // Below it doubles lose digits.
  const MetricValue check_recall = held(recall_over, 0.0, slack.against_exact, 1e-300);
  const double recall_bound = remainder.recall_bound.mean();
  metrics.insert(metrics.end(), {
                                    {"bound_remainder", bound},
                                    {"tightness_remainder", tightness(left, bound, check)},
                                    {"bound_remainder_radii", bound_radii},
                                    {"tightness_remainder_radii", tightness(left, bound_radii, check_radii)},
                                    {"bound_remainder_gap", bound_gap},
                                    {"tightness_remainder_gap", tightness(left, bound_gap, check_gap)},
                                    {"recall_bound", recall_bound},
                                    {"tightness_recall", tightness(recall_bound, m.effect.kept.mean(), check_recall)},
                                    {"check_remainder", check},
                                    {"check_remainder_radii", check_radii},
                                    {"check_remainder_gap", check_gap},
                                    {"check_recall", check_recall},
                                });
}

bool all_checks_hold(const Metrics& metrics) {
  return std::all_of(metrics.begin(), metrics.end(), [](const auto& entry) {
    return !entry.first.starts_with("check_") || !entry.second.applicable() || entry.second == 1.0;
  });
}

}  // namespace draft
