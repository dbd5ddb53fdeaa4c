#include "harness/record/metric_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <string_view>

namespace draft {
namespace {

constexpr double kNoEnd = std::numeric_limits<double>::infinity();
constexpr double kSqrt2 = 1.41421356237309504880;

constexpr MetricEntry kTable[] = {
    {"all_blocks"},
    {"attention_recall", 0, 1},
    {"attention_recall_min", 0, 1},
    {"attention_recall_p05", 0, 1},
    {"attention_share", 0, 1},
    {"blocks_judged"},
    {"bound_3_3"},
    {"bound_3_5"},
    {"bound_3_5_paper_delta"},
    {"bound_blocks"},
    {"bound_radii"},
    {"bound_sharp"},
    {"bound_sharp_mu"},
    {"bytes"},
    {"check_3_3", 0, 1, true},
    {"check_3_5", 0, 1, true},
    {"check_blocks", 0, 1, true},
    {"check_output", 0, 1, true},
    {"check_radii", 0, 1, true},
    {"check_radii_delta", 0, 1, true},
    {"check_sharp", 0, 1, true},
    {"check_sharp_mu", 0, 1, true},
    {"check_step_1", 0, 1, true},
    {"check_step_2", 0, 1, true},
    {"delta_block_column"},
    {"delta_block_row"},
    {"delta_half_block_share", 0, 1},
    {"delta_logits"},
    {"delta_p50"},
    {"delta_p90"},
    {"delta_p99"},
    {"delta_p999"},
    {"delta_radii"},
    {"delta_scaled"},
    {"draft_ms"},
    {"effective_blocks", 1, kNoEnd, true},
    {"empty_rows"},
    {"gb_per_s"},
    {"kept_blocks"},
    {"kept_share", 0, 1},
    {"kept_with_text"},
    {"kernel_element_over_tolerance"},
    {"kernel_lse_max_abs"},
    {"kernel_lse_over_tolerance"},
    {"kernel_max_abs"},
    {"kernel_rel_l2", 0, kNoEnd, true},
    {"kernel_row_over_tolerance"},
    {"kernel_worst_block", 0, kNoEnd, true},
    {"kernel_worst_block_rel_l2", 0, kNoEnd, true},
    {"logits_frobenius"},
    {"logits_rms_deviation"},
    {"mass_same_frame", 0, 1},
    {"mass_same_position", 0, 1},
    {"mass_same_region", 0, 1},
    {"mass_text", 0, 1},
    {"matmul_tflops"},
    {"max_dropped_mass", 0, 1},
    {"mean_dropped_mass", 0, 1},
    {"min_kept_fraction", 0, 1},
    {"output_bound_max_ratio", 0, 1, true},
    {"output_cosine", -1, 1, true},
    {"output_error_max"},
    {"output_psnr", -kNoEnd, kNoEnd, true},
    {"output_rel_l1", 0, kNoEnd, true},
    {"output_rel_l2", 0, kNoEnd, true},
    {"pflops_attention"},
    {"pflops_cross_attention"},
    {"pflops_linear"},
    {"pflops_linear_all_steps"},
    {"pflops_linear_as_printed"},
    {"pflops_linear_released"},
    {"pflops_mlp"},
    {"pflops_other"},
    {"pflops_printed"},
    {"pflops_projections"},
    {"pflops_quadratic"},
    {"pflops_reconstructed"},
    {"pflops_total"},
    {"probs_frobenius"},
    {"projected_calls"},
    {"projected_dense_s"},
    {"projected_other_s"},
    {"projected_sparse_s"},
    {"projected_sparse_share", 0, 1},
    {"projected_speedup"},
    {"radii_tightness", 0, 1, true},
    {"rate_over_dense"},
    {"row_blocks_max"},
    {"row_blocks_mean"},
    {"rows_judged"},
    {"share_of_attention"},
    {"share_of_matmul"},
    {"speedup_over_dense"},
    {"step_1_bound"},
    {"step_1_residual"},
    {"step_1_row_l1_max", 0, 2},
    {"step_1_rows_checked"},
    {"step_2_max_ratio", 0, 1, true},
    {"tightness_3_3", 0, 1, true},
    {"tightness_3_5", 0, 1, true},
    {"total_blocks"},
    {"trivial_bound"},
    {"vacuity_3_5", 0, kSqrt2},
};
static_assert(std::ranges::is_sorted(kTable, std::ranges::less{},
                                     [](const MetricEntry& entry) { return std::string_view(entry.name); }));

/// What cannot be above what.
struct Order {
  const char* lower;
  const char* upper;
};
constexpr Order kOrders[] = {
    {"attention_recall_min", "attention_recall"},
    {"attention_recall_min", "attention_recall_p05"},
    {"delta_p50", "delta_p90"},
    {"delta_p90", "delta_p99"},
    {"delta_p99", "delta_p999"},
    {"kept_blocks", "total_blocks"},
    {"mean_dropped_mass", "max_dropped_mass"},
    {"probs_frobenius", "trivial_bound"},
};

/// How far rounding leads out of a range, as a share of the larger of 1 and the range's end. float64: sums of up to
/// n^2 = 1e10 terms, 2e-11, and the exponentials' few roundings. fp32: a weight is off by (128 + 36) 2^-24 relative to
/// the sum that it is a share of, both ways 2e-5 (experiments/study/slack.hpp; the logits are the same on both sides).
double rounding_of(const std::string& device) { return device == "cuda" ? 0x1p-15 : 1e-10; }

std::string end_text(double end) { return std::isinf(end) ? "any" : fmt::format("{:.6g}", end); }

/// "" or what is wrong.
std::string value_failure(const std::string& name, const Json& value, double rounding) {
  const MetricEntry* const entry = find_metric(name);
  if (is_not_applicable(value)) {
    return entry == nullptr || entry->may_be_not_applicable
               ? ""
               : fmt::format("metric {} is not applicable, wanted a number", name);
  }
  if (!value.is_number()) {
    return fmt::format("metric {} is {}, wanted a number", name, one_line(value));
  }
  const auto found = value.get<double>();
  if (!std::isfinite(found)) return fmt::format("metric {} is {}", name, found);
  if (entry == nullptr) return "";
  const double slack = rounding * std::max({1.0, std::isinf(entry->lowest) ? 0.0 : std::abs(entry->lowest),
                                            std::isinf(entry->highest) ? 0.0 : std::abs(entry->highest)});
  // Nothing rounds below 0 what is a sum of what is not negative.
  const double below = entry->lowest == 0.0 ? 0.0 : slack;
  if (found >= entry->lowest - below && found <= entry->highest + slack) return "";
  return fmt::format("metric {} is {:.6g}, possible are {} to {}", name, found, end_text(entry->lowest),
                     end_text(entry->highest));
}

}  // namespace

std::span<const MetricEntry> metric_table() { return kTable; }

const MetricEntry* find_metric(const std::string& name) {
  const auto found = std::ranges::lower_bound(kTable, std::string_view(name), std::ranges::less{},
                                              [](const MetricEntry& entry) { return std::string_view(entry.name); });
  return found != std::end(kTable) && name == found->name ? found : nullptr;
}

std::string metrics_failure(const Json& metrics, const std::string& device) {
  const double rounding = rounding_of(device);
  std::string failure;
  const auto add = [&](const std::string& text) {
    if (!text.empty()) failure += (failure.empty() ? "" : "; ") + text;
  };
  for (const auto& [name, value] : metrics.items()) add(value_failure(name, value, rounding));
  if (!failure.empty()) return failure;  // comparisons with what is wrong already say nothing
  for (const auto& [lower, upper] : kOrders) {
    const MetricValue low = metric_of(metrics, lower), high = metric_of(metrics, upper);
    if (!low.applicable() || !high.applicable()) continue;
    if (low.number() <= high.number() * (1.0 + rounding) + rounding) continue;
    add(fmt::format("metric {} is {:.6g}, possible is at most {}, {:.6g}", lower, low.number(), upper, high.number()));
  }
  const MetricValue kept = metric_of(metrics, "attention_recall"), dropped = metric_of(metrics, "mean_dropped_mass");
  if (kept.applicable() && dropped.applicable() &&
      !(std::abs(kept.number() + dropped.number() - 1.0) <= 2.0 * rounding)) {
    add(fmt::format("metrics attention_recall and mean_dropped_mass are {:.6g} and {:.6g}, possible is a sum of 1",
                    kept.number(), dropped.number()));
  }
  return failure;
}

}  // namespace draft
