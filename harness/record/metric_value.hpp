#pragma once
// A metric's value: a number, or "not applicable" where it is relative to nothing.

#include <optional>
#include <string>

#include "harness/record/json_line.hpp"

namespace draft {

/// In a record's metrics: a value of its own, and no failure.
inline constexpr const char* kNotApplicable = "not_applicable";

class MetricValue {
 public:
  MetricValue(double number) : number_(number) {}  // implicit: most metrics are plain numbers
  static MetricValue not_applicable() { return MetricValue(); }

  [[nodiscard]] bool applicable() const { return number_.has_value(); }
  /// Throws std::bad_optional_access if it is not applicable.
  [[nodiscard]] double number() const { return number_.value(); }
  bool operator==(const MetricValue&) const = default;

 private:
  MetricValue() = default;
  std::optional<double> number_;
};

/// part / whole; not applicable where the whole is 0, or so far below the part that the ratio is no double.
MetricValue ratio(double part, double whole);
/// The same of metrics; not applicable if either is not.
MetricValue ratio(const MetricValue& part, const MetricValue& whole);

/// As a record has it: the number, or kNotApplicable.
Json to_json(const MetricValue& value);
bool is_not_applicable(const Json& value);
/// The named metric of a record; not applicable if it is that, or is not there, or is no number.
MetricValue metric_of(const Json& metrics, const std::string& name);

/// For tables: as number() of table.hpp; "n/a" where not applicable.
std::string metric_text(const MetricValue& value, int digits = 4);

}  // namespace draft
