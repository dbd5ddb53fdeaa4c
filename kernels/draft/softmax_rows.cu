// Idea:     A_draft[i, :] = softmax(scale * S~[i, :]) (eq. 3), for every head.
// Map:      one CTA of 256 threads for each row, whose entries stay in registers between one read and one write.
// Needs:    S~ [heads, regions, regions] fp32, 16-byte aligned; at most kMostBlocks regions; sm_80 on.
// Costs:    4 * heads * regions^2 bytes read and as many written.
// Numerics: exp((s - max) * scale) in fp32, sums in a fixed order. A row with a NaN, or with an infinite largest score,
//           becomes NaN.

#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/reduce.cuh"
#include "kernels/draft/draft.hpp"

namespace draft::gpu {
namespace {

constexpr int kThreads = 256;

/// Needs kItems * kThreads >= columns. May work in place: only its own CTA reads a row, and before it writes it.
template <int kItems>
__global__ void __launch_bounds__(kThreads)
    softmax_kernel(int columns, float scale, const float* logits, float* probabilities) {
  __shared__ float highest_parts[kThreads / 32], sum_parts[kThreads / 32];
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * columns;
  float items[kItems];
  float highest = -INFINITY;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int column = i * kThreads + static_cast<int>(threadIdx.x);
    items[i] = column < columns ? logits[row + column] : -INFINITY;
    highest = Larger{}(highest, items[i]);
  }
  highest = reduce_block(highest, Larger{}, highest_parts);
  float sum = 0.0F;
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int column = i * kThreads + static_cast<int>(threadIdx.x);
    items[i] = expf((items[i] - highest) * scale);
    if (column < columns) sum += items[i];
  }
  sum = reduce_block(sum, Plus{}, sum_parts);
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int column = i * kThreads + static_cast<int>(threadIdx.x);
    if (column < columns) probabilities[row + column] = items[i] / sum;
  }
}

}  // namespace

void softmax_rows(const Layout& layout, float scale, const float* logits, float* probabilities, cudaStream_t stream) {
  require_valid(layout);
  require_aligned("softmax_rows: logits", logits);
  require_aligned("softmax_rows: probabilities", probabilities);
  if (!(std::isfinite(scale) && scale > 0.0F)) {
    throw std::invalid_argument("softmax_rows: scale must be finite and positive, found " + std::to_string(scale));
  }
  const int regions = layout.regions();
  const unsigned rows = static_cast<unsigned>(layout.heads) * static_cast<unsigned>(regions);
  const auto launch = [&](auto kernel) {
    kernel<<<rows, kThreads, 0, stream>>>(regions, scale, logits, probabilities);
    check_launch("softmax_kernel");
  };
  static_assert(48 * kThreads >= kMostBlocks);
  if (regions <= 4 * kThreads) {
    launch(softmax_kernel<4>);
  } else if (regions <= 16 * kThreads) {
    launch(softmax_kernel<16>);
  } else {
    launch(softmax_kernel<48>);
  }
}

}  // namespace draft::gpu
