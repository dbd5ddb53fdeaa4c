#include "harness/timing/timing.hpp"

namespace draft {

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
