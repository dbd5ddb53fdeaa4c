#include "harness/record/metric_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "metrics_text.hpp"

namespace draft {
namespace {

constexpr double kNoEnd = std::numeric_limits<double>::infinity();

/// The table of metrics.json by name.
std::vector<MetricEntry> parsed_table() {
  std::vector<MetricEntry> table;
  const auto text = nlohmann::json::parse(kMetricsText);  // sorts by name
  for (const auto& [name, value] : text.items()) {
    MetricEntry entry{.name = name, .may_be_not_applicable = value.value("may_be_not_applicable", false)};
    if (value.contains("range")) {
      const auto &least = value["range"][0], &most = value["range"][1];
      entry.lowest = least.is_null() ? -kNoEnd : least.get<double>();
      entry.highest = most.is_null() ? kNoEnd : most.get<double>();
    }
    table.push_back(entry);
  }
  return table;
}

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

std::span<const MetricEntry> metric_table() {
  static const std::vector<MetricEntry> table = parsed_table();
  return table;
}

const MetricEntry* find_metric(const std::string& name) {
  const auto found = std::ranges::lower_bound(metric_table(), name, std::ranges::less{}, &MetricEntry::name);
  return found != metric_table().end() && name == found->name ? &*found : nullptr;
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
