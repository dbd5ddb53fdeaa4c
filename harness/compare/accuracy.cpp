#include "harness/compare/accuracy.hpp"

#include <cmath>
#include <limits>

#include "harness/numbers/element.hpp"

namespace draft {
namespace {

constexpr double kToleranceFloor = 1.0 / 16;

/// Half the relative distance of neighbouring numbers.
double unit_roundoff(Element element) {
  switch (element) {
    case Element::float16: return std::ldexp(1.0, -kFloat16.fraction_bits - 1);
    case Element::bfloat16: return std::ldexp(1.0, -kBfloat16.fraction_bits - 1);
    case Element::float32: return std::numeric_limits<float>::epsilon() / 2.0;
    case Element::float64: return std::numeric_limits<double>::epsilon() / 2.0;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

Element element_of(const Json& record) {
  const Json& name = part(part(record, "config"), "element");
  return name.is_string() ? parse_element(name.get<std::string>()).value_or(Element::float32) : Element::float32;
}

}  // namespace

bool is_kernel_error(const std::string& metric) {
  if (is_share_of_tolerance(metric)) return true;
  if (!metric.starts_with("kernel_")) return false;
  return metric.ends_with("rel_l1") || metric.ends_with("rel_l2") || metric.ends_with("max_abs");
}

bool is_share_of_tolerance(const std::string& metric) { return metric.ends_with("_over_tolerance"); }

double accuracy_floor(const std::string& metric, const Json& record) {
  if (is_share_of_tolerance(metric)) return kToleranceFloor;
  if (metric.find("_lse_") != std::string::npos) return 8.0 * unit_roundoff(Element::float32);
  return unit_roundoff(element_of(record)) / 8.0;
}

}  // namespace draft
