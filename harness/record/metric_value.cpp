#include "harness/record/metric_value.hpp"

#include <cmath>

#include "harness/table.hpp"

namespace draft {

MetricValue ratio(double part, double whole) {
  if (whole == 0.0) return MetricValue::not_applicable();
  const double found = part / whole;
  const bool overflows = std::isinf(found) && std::isfinite(part) && std::isfinite(whole);
  return overflows ? MetricValue::not_applicable() : MetricValue(found);
}

MetricValue ratio(const MetricValue& part, const MetricValue& whole) {
  if (!part.applicable() || !whole.applicable()) return MetricValue::not_applicable();
  return ratio(part.number(), whole.number());
}

Json to_json(const MetricValue& value) { return value.applicable() ? Json(value.number()) : Json(kNotApplicable); }

bool is_not_applicable(const Json& value) {
  return value.is_string() && value.get_ref<const std::string&>() == kNotApplicable;
}

MetricValue metric_of(const Json& metrics, const std::string& name) {
  const auto found = metrics.find(name);
  if (found == metrics.end() || !found->is_number()) return MetricValue::not_applicable();
  return found->get<double>();
}

std::string metric_text(const MetricValue& value, int digits) {
  return value.applicable() ? number(value.number(), digits) : "n/a";
}

}  // namespace draft
