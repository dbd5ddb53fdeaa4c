#pragma once
// Times pieces of GPU work with Google Benchmark, for builds with kernels.

#include <cuda_runtime_api.h>

#include <functional>
#include <string>
#include <vector>

#include "harness/timing/timing.hpp"

namespace draft {

/// Enqueues work on the stream; the same work at every call.
struct TimedWork {
  std::string name;  // for messages
  std::function<void(cudaStream_t)> enqueue;
};

struct TimingPlan {
  int samples = 10;          // of each piece of work
  int warmup = 2;            // runs of each before its first sample
  double at_least_ms = 0.0;  // a sample is the mean of as many runs in a row as take this long; 0: of one run
};

/// Samples of every piece of work on this thread's device, in the order of `works`. A sample is one run between two
/// CUDA events, or the mean of several in a row, as many as the last warm-up's time asks for (then there is one at
/// least); before it, outside the measured time, twice the L2 cache is overwritten. The samples of all works come
/// in one random order (Google Benchmark's random interleaving), so that a drift of the clocks hits all of them alike.
/// Work that throws has an error and no samples; the others are still measured. `after_each` is called after every
/// sample and once for each sample that an error leaves out. Prints one line to stderr for each work that was
/// is_hampered(). Throws gpu::Error if there is no room for the L2 flush.
std::vector<WorkTimes> time_on_gpu(const std::vector<TimedWork>& works, const TimingPlan& plan,
                                   const std::function<void()>& after_each = {});

}  // namespace draft
