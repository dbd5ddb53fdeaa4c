#pragma once
// What the GPU benches measure with: shapes, data, and the timer with its L2 flush.

#include <benchmark/benchmark.h>
#include <cuda_bf16.h>

#include <string>
#include <vector>

#include "kernels/bench/random.cuh"
#include "kernels/core/cuda_check.hpp"
#include "kernels/kernels.hpp"

namespace draft::gpu {

/// One attention call of a video model of the paper; head_dim is 128 in all of them.
struct Shape {
  std::string name;
  Layout layout;
};
inline const Shape kHunyuan768p{"hunyuan_768p", {.heads = 24, .frames = 33, .height = 48, .width = 80, .text = 256}};
inline const Shape kWan512p{"wan_512p", {.heads = 40, .frames = 21, .height = 32, .width = 48}};
inline const Shape kWan768p{"wan_768p", {.heads = 40, .frames = 21, .height = 48, .width = 80}};
inline const std::vector<Shape> kShapes{kHunyuan768p, kWan512p, kWan768p};
inline constexpr float kScale = 0.08838834764831845F;  // 1 / sqrt(128)

/// The shape as counters.
inline void count_shape(benchmark::State& state, const Shape& shape) {
  state.counters["heads"] = shape.layout.heads;
  state.counters["tokens"] = shape.layout.tokens();
  state.counters["head_dim"] = shape.layout.head_dim;
  state.counters["regions"] = shape.layout.regions();
}

/// Random normal numbers, [heads, tokens, head_dim]. Waits.
inline DeviceBuffer<__nv_bfloat16> normal_rows(const Layout& layout, std::uint64_t seed) {
  DeviceBuffer<__nv_bfloat16> rows(static_cast<std::size_t>(layout.offset(layout.heads, 0)));
  fill_normal<<<4096, 256>>>(rows.data(), static_cast<std::int64_t>(rows.size()), seed);
  check_launch("fill_normal");
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  return rows;
}

/// Times a part of the work on its stream by CUDA events.
class Stopwatch {
 public:
  explicit Stopwatch(std::size_t l2_bytes) : flushed_(2 * l2_bytes) {}
  [[nodiscard]] cudaStream_t stream() const { return stream_.get(); }
  [[nodiscard]] std::size_t flush_bytes() const { return flushed_.bytes(); }
  /// Before a sample: overwrites twice the L2 cache, so that it holds nothing of the sample before. Not timed.
  void flush() const { check(cudaMemsetAsync(flushed_.data(), 0, flushed_.bytes(), stream()), "cudaMemsetAsync"); }
  void begin() const { begin_.record(stream()); }
  void end() const { end_.record(stream()); }
  /// Waits for the stream; from the last begin() to the last end().
  [[nodiscard]] float milliseconds() const {
    stream_.wait();
    return end_.since(begin_);
  }

 private:
  Stream stream_;
  Event begin_, end_;
  DeviceBuffer<std::uint8_t> flushed_;
};

}  // namespace draft::gpu
