#include "harness/timing/timing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace draft {

double quantile(std::vector<double> samples, double share) {
  if (samples.empty()) throw std::invalid_argument("quantile: wanted at least 1 sample, found none");
  if (!(share >= 0.0 && share <= 1.0)) {
    throw std::invalid_argument(fmt::format("quantile: wanted a share of 0 to 1, found {}", share));
  }
  std::sort(samples.begin(), samples.end());
  const double place = share * static_cast<double>(samples.size() - 1);
  const auto low = static_cast<std::size_t>(place);
  const std::size_t high = std::min(low + 1, samples.size() - 1);
  return samples[low] + (place - static_cast<double>(low)) * (samples[high] - samples[low]);
}

Json timing_of(const WorkTimes& times, std::optional<double> flops) {
  Json timing;
  timing["samples_ms"] = times.samples_ms;
  timing["median_ms"] = times.median_ms();
  timing["p10_ms"] = quantile(times.samples_ms, 0.1);
  timing["p90_ms"] = quantile(times.samples_ms, 0.9);
  if (flops) timing["tflops_kept"] = *flops / times.median_ms() * 1e-9;
  timing["warmup"] = times.warmup;
  timing["l2_flush"] = times.l2_flush;
  if (times.calls > 1) timing["calls_per_sample"] = times.calls;
  if (times.hampered.value_or(0) > 0) timing["hampered_samples"] = *times.hampered;
  return timing;
}

void add_gpu_state(const WorkTimes& times, Json& machine) {
  const auto add = [&](const char* name, const std::optional<double>& value) {
    if (value) machine[name] = *value;
  };
  add("sm_clock_before_mhz", times.before.sm_clock_mhz);
  add("sm_clock_after_mhz", times.after.sm_clock_mhz);
  add("power_before_w", times.before.power_w);
  add("power_after_w", times.after.power_w);
  if (times.hampered) machine["throttle_reasons"] = times.throttle;
}

}  // namespace draft
