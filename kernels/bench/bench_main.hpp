#pragma once
// Google Benchmark's set-up in the GPU benches. A sample is one repetition of one iteration, so that
// --benchmark_out=FILE.json holds every sample beside their mean, median and deviation.

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {

/// The GPU that is measured; a capability of 0 stands for none, where benchmarks are only listed.
struct Device {
  std::string name;
  int capability = 0;  // 80, 90, ...
  std::size_t l2_bytes = 0;
};

inline Device first_device() {
  cudaDeviceProp found{};
  check(cudaGetDeviceProperties(&found, 0), "looking for a GPU");
  return {found.name, 10 * found.major + found.minor, static_cast<std::size_t>(found.l2CacheSize)};
}

/// Registers a program's benchmarks.
class Benches {
 public:
  /// `sample(state)` returns one sample's milliseconds and may set counters; `warm_ups` calls come before the first.
  template <typename Sample>
  void add(const std::string& name, int warm_ups, Sample sample) {
    const auto run = [this, name, warm_ups, sample](benchmark::State& state) mutable {
      try {
        for (; warm_ups > 0; --warm_ups) (void)sample(state);
        while (state.KeepRunning()) state.SetIterationTime(static_cast<double>(sample(state)) * 1e-3);
      } catch (const std::exception& error) {
        failed_ = true;
        std::fprintf(stderr, "%s: %s\n", name.c_str(), error.what());  // the console shows no single repetition
        state.SkipWithError(error.what());
      }
    };
    benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);
  }
  /// One that only says why it is not measured.
  static void skip(const std::string& name, const std::string& why) {
    const auto run = [why](benchmark::State& state) { state.SkipWithError(("skipped: " + why).c_str()); };
    benchmark::RegisterBenchmark(name.c_str(), run)->UseManualTime()->Iterations(1)->Repetitions(1);
  }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  bool failed_ = false;
};

/// A bench's main. `add_all(benches, device, words)` registers its benchmarks; `words` are the arguments that are not
/// Google Benchmark's. `samples` is the default of --benchmark_repetitions. Returns the exit status: 1 if a benchmark
/// failed, 2 with one line on stderr if there is no GPU, a word is refused or nothing matches --benchmark_filter.
template <typename AddAll>
int run_benches(int argc, char** argv, int samples, AddAll add_all) {
  const std::string program = std::filesystem::path(argv[0]).filename().string();
  try {
    std::string repetitions = "--benchmark_repetitions=" + std::to_string(samples);
    std::string console = "--benchmark_display_aggregates_only=true";  // the file has the samples
    std::vector<char*> arguments(argv, argv + argc);
    arguments.insert(arguments.begin() + 1, {repetitions.data(), console.data()});
    int count = static_cast<int>(arguments.size());
    arguments.push_back(nullptr);
    benchmark::Initialize(&count, arguments.data());
    const std::vector<std::string> words(arguments.begin() + 1, arguments.begin() + count);
    const auto lists = [](std::string_view word) { return word.starts_with("--benchmark_list_tests"); };
    const Device device = std::any_of(argv + 1, argv + argc, lists) ? Device{} : first_device();
    benchmark::AddCustomContext("gpu", device.name);
    benchmark::AddCustomContext("l2_bytes", std::to_string(device.l2_bytes));
    Benches benches;
    add_all(benches, device, words);
    const std::size_t matched = benchmark::RunSpecifiedBenchmarks();
    benchmark::ClearRegisteredBenchmarks();  // and with them what they hold on the device
    if (matched == 0) return 2;
    return benches.failed() ? 1 : 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program.c_str(), error.what());
    return 2;
  }
}

/// The sparsity that a word says. Throws std::invalid_argument unless it is a number with 0 < sparsity < 1.
inline double sparsity_of(const std::string& word) {
  std::size_t used = 0;
  double sparsity = 0.0;
  try {
    sparsity = std::stod(word, &used);
  } catch (const std::logic_error&) {
    used = 0;
  }
  if (used != word.size() || !(sparsity > 0.0 && sparsity < 1.0)) {
    throw std::invalid_argument("wanted a sparsity between 0 and 1, found '" + word + "'");
  }
  return sparsity;
}

}  // namespace draft::gpu
