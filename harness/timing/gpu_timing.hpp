#pragma once
// Times pieces of GPU work with Google Benchmark, for builds with kernels.

#include <cuda_runtime_api.h>

#include <functional>
#include <string>
#include <vector>

#include "harness/timing/timing.hpp"

namespace draft {

/// Work to be timed. `enqueue` enqueues the same work on the stream at every call.
struct TimedWork {
  std::string name;  // for messages
  std::function<void(cudaStream_t)> enqueue;
};

struct TimingPlan {
  int samples = 10;          // samples of each work
  int warmup = 2;            // runs of each work before its first sample
  double at_least_ms = 0.0;  // a sample is the mean of as many runs in a row as take this long; 0: a single run
};

/// Samples of every work on this thread's device, in the order of `works`. A sample is the time of one run between two
/// CUDA events. With at_least_ms it is the mean of several runs in a row; their number follows from the last warm-up,
/// of which there is then at least one. Before each sample, outside the measured time, twice the L2 cache is
/// overwritten. The samples of all works are taken in one random order (Google Benchmark's random interleaving), so
/// that a drift of the clock affects all works alike. Work that throws gets an error and no samples; the others are
/// still measured. `after_each` is called after every sample, and once for each sample that an error prevented. Prints
/// one line to stderr for each work with is_hampered() samples. Throws gpu::Error if there is no room for the L2 flush.
std::vector<WorkTimes> time_on_gpu(const std::vector<TimedWork>& works, const TimingPlan& plan,
                                   const std::function<void()>& after_each = {});

}  // namespace draft
