#include "experiments/study_metrics.hpp"

#include <algorithm>
#include <cmath>

namespace draft {
namespace {

/// Linear interpolation between order statistics, as NumPy's default.
double quantile(std::vector<double> values, double p) {
  const double place = p * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(std::floor(place));
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const double low = values[static_cast<std::size_t>(below)];
  if (below + 1 == static_cast<std::ptrdiff_t>(values.size())) return low;
  const double high = *std::min_element(values.begin() + below + 1, values.end());
  return low + (place - static_cast<double>(below)) * (high - low);
}

/// 1 if left <= right within rounding; 0 otherwise and on NaN.
double held(double left, double right, double relative, double floor = 0.0) {
  return left <= right * (1.0 + relative) + floor ? 1.0 : 0.0;
}

}  // namespace

void append_mask_metrics(Metrics& metrics, const MaskMeasurement& m) {
  const Vector& recall = m.effect.kept;
  const double values = static_cast<double>(m.problem.grid.video() * m.problem.v.cols());
  const double square_error = m.effect.output_error2.sum();
  const double both = std::sqrt(m.dense.square * m.effect.output_square);
  const double peak = std::max(std::abs(m.dense.lowest), std::abs(m.dense.highest));
  const MaskError& error = m.error;
  metrics.insert(metrics.end(), {
      {"attention_recall", recall.mean()},
      {"attention_recall_p05", quantile({recall.begin(), recall.end()}, 0.05)},
      {"attention_recall_min", recall.minCoeff()},
      {"max_dropped_mass", error.max_dropped},
      {"mean_dropped_mass", error.mean_dropped},
      {"min_kept_fraction", kept_tokens(m.partition, m.mask).smallest},
      {"kept_blocks", static_cast<double>(m.mask.kept_blocks())},
      {"total_blocks", static_cast<double>(m.partition.regions() * m.partition.regions())},
      {"empty_rows", static_cast<double>(m.mask.empty_rows())},
      {"probs_frobenius", error.probs_frobenius},
      {"trivial_bound", error.trivial_bound},
      {"output_rel_l2", std::sqrt(square_error / m.dense.square)},
      {"output_rel_l1", m.effect.output_error1 / m.dense.absolute},
      {"output_cosine", both > 0.0 ? m.effect.output_dot / both : 0.0},
  });
  if (square_error > 0.0) {
    metrics.emplace_back("output_psnr", 10.0 * std::log10(peak * peak * values / square_error));
  }
}

void append_mask_bound_metrics(Metrics& metrics, const MaskMeasurement& m) {
  const MaskError& error = m.error;
  const Slack& slack = m.slack;
  metrics.insert(metrics.end(), {
      {"step_1_row_l1_max", m.effect.row_l1_max},
      {"step_1_residual", m.effect.row_l1_residual},
      {"step_1_rows_checked", static_cast<double>(m.effect.rows_checked)},
      {"step_1_bound", error.step_1_bound},
      {"bound_sharp_mu", error.bound_sharp_mu},
      {"output_error_max", error.output_error_max},
      {"output_bound_max_ratio", error.output_ratio_max},
      // ||P_u - P^M_u||_1 = 2 mu_u is an identity of numbers of order one.
      {"check_step_1", std::min(held(m.effect.row_l1_residual, 0.0, slack.relative, slack.identity),
                                held(error.probs_frobenius, error.step_1_bound, slack.relative, slack.probs_floor))},
      {"check_sharp_mu", held(error.probs_frobenius, error.bound_sharp_mu, slack.relative, slack.probs_floor)},
      {"check_output", held(error.output_judged_max, 1.0, slack.relative)},
  });
}

void append_pooling_metrics(Metrics& metrics, const Problem& problem, const PoolingError& pooling,
                            const LogHistogram& deviations, const Slack& slack) {
  const double n = static_cast<double>(problem.grid.video());
  metrics.insert(metrics.end(), {
      {"delta_logits", pooling.delta},
      {"delta_scaled", pooling.delta * problem.scale},
      {"delta_p50", deviations.quantile(0.5)},
      {"delta_p90", deviations.quantile(0.9)},
      {"delta_p99", deviations.quantile(0.99)},
      {"delta_p999", deviations.quantile(0.999)},
      {"logits_rms_deviation", pooling.frobenius / n},
      {"logits_frobenius", pooling.frobenius},
      {"bound_3_3", pooling.bound},
  });
  if (pooling.bound > 0.0) metrics.emplace_back("tightness_3_3", pooling.frobenius / pooling.bound);
  metrics.insert(metrics.end(), {
      {"delta_block_row", static_cast<double>(pooling.block_row)},
      {"delta_block_column", static_cast<double>(pooling.block_column)},
      {"delta_half_block_share", pooling.half_block_share},
      {"delta_radii", pooling.delta_radii},
  });
  if (pooling.delta_radii > 0.0) metrics.emplace_back("radii_tightness", pooling.delta / pooling.delta_radii);
  metrics.emplace_back("check_3_3", held(pooling.frobenius, pooling.bound, slack.relative, n * slack.logit));
  const double over = (pooling.block_delta - pooling.block_radii * (1.0 + slack.relative)).maxCoeff();
  metrics.emplace_back("check_radii_delta", held(over, 0.0, slack.relative, slack.logit));
}

void append_threshold_metrics(Metrics& metrics, const MaskMeasurement& m, const DraftMap& map,
                              const PoolingError& pooling, const std::vector<Index>& row_region) {
  append_mask_bound_metrics(metrics, m);
  const double left = m.error.probs_frobenius;
  const double relative = m.slack.relative, floor = m.slack.probs_floor;
  const ThresholdBounds bounds = threshold_bounds(m.partition, map, pooling, m.mask, m.effect, row_region);
  metrics.insert(metrics.end(), {
      {"bound_3_5", bounds.bound},
      {"bound_3_5_paper_delta", bounds.bound_paper_delta},
      {"vacuity_3_5", bounds.bound / m.error.trivial_bound},
  });
  if (bounds.bound > 0.0) metrics.emplace_back("tightness_3_5", left / bounds.bound);
  metrics.insert(metrics.end(), {
      {"bound_sharp", bounds.bound_sharp},
      {"bound_blocks", bounds.bound_blocks},
      {"bound_radii", bounds.bound_radii},
      {"step_2_max_ratio", bounds.step_2_ratio},
      {"check_step_2", held(bounds.step_2_ratio, 1.0, relative)},
      {"check_3_5", std::min(held(left, bounds.bound, relative, floor),
                             held(left, bounds.bound_paper_delta, relative, floor))},
      {"check_sharp", held(left, bounds.bound_sharp, relative, floor)},
      {"check_blocks", held(left, bounds.bound_blocks, relative, floor)},
      {"check_radii", held(left, bounds.bound_radii, m.slack.against_exact, floor)},
  });
}

bool all_checks_hold(const Metrics& metrics) {
  return std::all_of(metrics.begin(), metrics.end(), [](const auto& entry) {
    return !entry.first.starts_with("check_") || entry.second == 1.0;
  });
}

}  // namespace draft
