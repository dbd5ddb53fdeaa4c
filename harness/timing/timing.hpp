#pragma once
// Samples of a time and their statistics in a record. How GPU work is timed: harness/timing/gpu_timing.hpp.

#include <optional>
#include <string>
#include <vector>

#include "harness/gpu.hpp"
#include "harness/numbers/quantile.hpp"
#include "harness/record/record.hpp"

namespace draft {

/// The measurements of one work.
struct WorkTimes {
  std::vector<double> samples_ms;     // in the order they were taken
  int warmup = 0;                     // runs before the first sample
  int calls = 1;                      // runs in a row of which a sample is the mean
  std::size_t l2_flush = 0;           // bytes overwritten before each sample
  GpuState before, after;             // at the first sample's start and at the last one's end
  std::vector<std::string> throttle;  // reasons seen after any sample, in NVML's order
  std::optional<int> hampered;        // number of samples after which is_hampered() was true; none without NVML
  std::string error;                  // why there are no samples, or ""

  /// Throws std::invalid_argument without samples.
  [[nodiscard]] double median_ms() const { return median(samples_ms); }
};

/// A record's `timing`: samples_ms, median_ms, p10_ms, p90_ms, tflops_kept if `flops` are given, warmup, l2_flush,
/// calls_per_sample if they are several, and hampered_samples if there are any.
Json timing_of(const WorkTimes& times, std::optional<double> flops = std::nullopt);

/// Adds the clocks, powers and throttle reasons of the work to a record's `machine`, as far as NVML reported them.
void add_gpu_state(const WorkTimes& times, Json& machine);

}  // namespace draft
