#include "harness/compare/timing_match.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "harness/compare/separation.hpp"

namespace draft {
namespace {

constexpr double kClockTolerance = 0.03;

/// In MHz; NaN if the record tells none.
double lowest_sm_clock(const Json& record) {
  double lowest = std::numeric_limits<double>::quiet_NaN();
  for (const char* place : {"machine", "timing"}) {
    if (!part(record, place).is_object()) continue;
    for (const auto& [name, value] : part(record, place).items()) {
      if (name.starts_with("sm_clock") && value.is_number()) lowest = std::fmin(lowest, value.get<double>());
    }
  }
  return lowest;
}

std::string device_of(const Json& record) {
  const bool on_cpu = part(part(record, "config"), "device") == "cpu";
  const Json& name = part(part(record, "machine"), on_cpu ? "cpu" : "gpu");
  return name.is_string() ? name.get<std::string>() : "an unnamed device";
}

bool has_enough_samples(const Json& record) { return timing_samples(record).size() >= kFewestSamples; }

/// Why times of the two do not mean the same; empty if they do.
std::string why_measured_differently(const Json& before, const Json& after) {
  if (device_of(before) != device_of(after)) {
    return fmt::format("measured on {}, now on {}", device_of(before), device_of(after));
  }
  const Json& old_flush = part(part(before, "timing"), "l2_flush");
  const Json& new_flush = part(part(after, "timing"), "l2_flush");
  if (old_flush == new_flush) return "";
  return fmt::format("l2_flush was {}, now is {}", old_flush.dump(), new_flush.dump());
}

}  // namespace

std::vector<double> timing_samples(const Json& record) {
  std::vector<double> samples;
  for (const Json& sample : part(part(record, "timing"), "samples_ms")) {
    const double ms = sample.is_number() ? sample.get<double>() : 0.0;
    if (!(ms > 0.0 && std::isfinite(ms))) return {};
    samples.push_back(ms);
  }
  return samples;
}

std::string why_not_comparable(const Json& before, const Json& after) {
  std::string why = why_measured_differently(before, after);
  if (!why.empty() || (has_enough_samples(before) && has_enough_samples(after))) return why;
  return fmt::format("fewer than {} samples, or one that is no positive number", kFewestSamples);
}

bool has_lost_samples(const Json& before, const Json& after) {
  return why_measured_differently(before, after).empty() && has_enough_samples(before) && !has_enough_samples(after);
}

std::string clock_difference(const Json& before, const Json& after) {
  const double old_clock = lowest_sm_clock(before), new_clock = lowest_sm_clock(after);
  if (!(std::abs(new_clock - old_clock) > kClockTolerance * old_clock)) return "";
  return fmt::format("SM clock {} MHz, now {} MHz", old_clock, new_clock);
}

}  // namespace draft
