#include "harness/timing/gpu_timing.hpp"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <mutex>

#include "kernels/core/cuda_check.hpp"

#if defined(DRAFT_PROFILE)
#include <nvtx3/nvToolsExt.h>
#endif

namespace draft {
namespace {

/// Marks a range with the work's name on Nsight's timeline, in builds with DRAFT_PROFILE; does nothing in others.
class NamedRange {
 public:
#if defined(DRAFT_PROFILE)
  explicit NamedRange(const std::string& name) { nvtxRangePushA(name.c_str()); }
  ~NamedRange() { nvtxRangePop(); }
#else
  explicit NamedRange(const std::string& /*name*/) {}
  ~NamedRange() {}
#endif
  NamedRange(const NamedRange&) = delete;
  NamedRange& operator=(const NamedRange&) = delete;
};

/// Takes the samples and collects them from Google Benchmark. A benchmark's name is the index of its work.
class SampleCollector : public benchmark::BenchmarkReporter {
 public:
  explicit SampleCollector(std::vector<WorkTimes>& times) : times_(times) {}
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      WorkTimes& own = times_[std::stoul(run.run_name.function_name)];
      if (own.error.empty()) own.samples_ms.push_back(run.real_accumulated_time * 1e3);
    }
  }

 private:
  std::vector<WorkTimes>& times_;
};

class Sampler {
 public:
  Sampler(const std::vector<TimedWork>& works, const TimingPlan& plan, std::vector<WorkTimes>& times,
          const std::function<void()>& after_each)
      : works_(works),
        plan_(plan),
        times_(times),
        throttle_(works.size(), 0),
        left_(works.size(), warmups(plan)),
        after_each_(after_each) {
    cudaDeviceProp device{};
    int current = 0;
    gpu::check(cudaGetDevice(&current), "cudaGetDevice");
    gpu::check(cudaGetDeviceProperties(&device, current), "cudaGetDeviceProperties");
    flushed_ = gpu::DeviceBuffer<std::uint8_t>(2 * static_cast<std::size_t>(device.l2CacheSize));
  }

  /// One repetition of one benchmark.
  void repetition(std::size_t index, benchmark::State& state) {
    WorkTimes& own = times_[index];
    try {
      if (!own.error.empty()) throw std::runtime_error(own.error);
      for (int& left = left_[index]; left > 0; --left) own.calls = calls_for(milliseconds(works_[index], own.calls));
      while (state.KeepRunning()) state.SetIterationTime(1e-3 * sample(index));
    } catch (const std::exception& error) {
      own.error = error.what();
      state.SkipWithError(error.what());
    }
    if (after_each_) after_each_();
  }

  /// Fills in what is known only after all samples were taken.
  void finish() {
    for (std::size_t i = 0; i < times_.size(); ++i) {
      WorkTimes& own = times_[i];
      if (own.error.empty() && own.samples_ms.size() != static_cast<std::size_t>(plan_.samples)) {
        own.error =
            fmt::format("wanted {} samples, Google Benchmark reported {}", plan_.samples, own.samples_ms.size());
      }
      if (!own.error.empty()) own.samples_ms.clear();
      own.warmup = warmups(plan_);
      own.l2_flush = flushed_.bytes();
      own.throttle = throttle_names(throttle_[i]);
      if (own.hampered.value_or(0) == 0) continue;
      std::string reasons;
      for (const std::string& name : own.throttle) reasons += (reasons.empty() ? "" : ", ") + name;
      const std::string said = fmt::format("{}: the GPU was slowed down after {} of {} samples: {}\n", works_[i].name,
                                           *own.hampered, own.samples_ms.size(), reasons);
      std::fputs(said.c_str(), stderr);  // unchecked: the record has it too
    }
  }

 private:
  static int warmups(const TimingPlan& plan) { return plan.at_least_ms > 0.0 ? std::max(plan.warmup, 1) : plan.warmup; }
  /// How many runs in a row a sample needs for work of this duration.
  [[nodiscard]] int calls_for(double milliseconds) const {
    return std::max(1, static_cast<int>(std::ceil(plan_.at_least_ms / std::max(milliseconds, 1e-3))));
  }

  /// Runs the work `calls` times in a row; returns the time of one run.
  double milliseconds(const TimedWork& work, int calls) const {
    const NamedRange range(work.name);
    gpu::check(cudaMemsetAsync(flushed_.data(), 0, flushed_.bytes(), stream_.get()), "cudaMemsetAsync");
    begin_.record(stream_.get());
    for (int call = 0; call < calls; ++call) work.enqueue(stream_.get());
    end_.record(stream_.get());
    stream_.wait();
    return static_cast<double>(end_.since(begin_)) / calls;
  }

  double sample(std::size_t index) {
    WorkTimes& own = times_[index];
    if (!started_[index]) own.before = gpu_state();
    started_[index] = true;
    const double found = milliseconds(works_[index], own.calls);
    own.after = gpu_state();
    if (own.after.throttle) {
      throttle_[index] |= *own.after.throttle;
      own.hampered = own.hampered.value_or(0) + (is_hampered(*own.after.throttle) ? 1 : 0);
    }
    return found;
  }

  const std::vector<TimedWork>& works_;
  TimingPlan plan_;
  std::vector<WorkTimes>& times_;
  std::vector<std::uint64_t> throttle_;
  std::vector<int> left_;  // warm-ups
  std::vector<bool> started_ = std::vector<bool>(works_.size(), false);
  const std::function<void()>& after_each_;
  gpu::Stream stream_;
  gpu::Event begin_, end_;
  gpu::DeviceBuffer<std::uint8_t> flushed_;
};

void initialize_google_benchmark() {
  static std::once_flag once;
  std::call_once(once, [] {
    std::string program = "draftbench", interleaving = "--benchmark_enable_random_interleaving=true";
    std::array<char*, 3> arguments{program.data(), interleaving.data(), nullptr};
    int count = 2;
    benchmark::Initialize(&count, arguments.data());
  });
}

}  // namespace

std::vector<WorkTimes> time_on_gpu(const std::vector<TimedWork>& works, const TimingPlan& plan,
                                   const std::function<void()>& after_each) {
  std::vector<WorkTimes> times(works.size());
  if (works.empty()) return times;
  initialize_google_benchmark();
  Sampler sampler(works, plan, times, after_each);
  for (std::size_t i = 0; i < works.size(); ++i) {
    const auto run = [&sampler, i](benchmark::State& state) { sampler.repetition(i, state); };
    benchmark::RegisterBenchmark(std::to_string(i).c_str(), run)
        ->UseManualTime()
        ->Iterations(1)  // a sample is one repetition of one iteration
        ->Repetitions(plan.samples);
  }
  SampleCollector collector(times);
  benchmark::RunSpecifiedBenchmarks(&collector, ".");
  benchmark::ClearRegisteredBenchmarks();
  sampler.finish();
  return times;
}

}  // namespace draft
