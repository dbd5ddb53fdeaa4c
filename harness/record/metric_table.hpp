#pragma once
// Every metric that a record may have: between what it can lie, and whether it can be not applicable. A value outside
// is no measurement, whatever produced it, and fails its record. The table is harness/record/metrics.json, which also
// has each metric's label, unit and better direction for reports (scripts/lab/shared/metrics.py).

#include <limits>
#include <span>
#include <string>

#include "harness/record/metric_value.hpp"

namespace draft {

struct MetricEntry {
  std::string name;
  double lowest = 0.0;
  double highest = std::numeric_limits<double>::infinity();
  bool may_be_not_applicable = false;
};

/// All metrics, in alphabetical order.
std::span<const MetricEntry> metric_table();
/// Null if there is no such metric.
const MetricEntry* find_metric(const std::string& name);

/// What is wrong with a record's metrics, "" if nothing is. Wrong is what is not finite, no number and not "not
/// applicable", outside its range, or in contradiction to another metric (a least value above the mean); the text names
/// metric, value and range. Names that the table does not have must only be finite. `device`: the record's
/// config.device, which says how far rounding may lead out of a range.
std::string metrics_failure(const Json& metrics, const std::string& device);

}  // namespace draft
