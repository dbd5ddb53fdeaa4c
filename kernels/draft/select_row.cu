// Idea:     the count-th largest score of each block row, exactly: radix select with four 8-bit digits.
// Map:      one CTA of 256 threads for each row; the row is read once for each digit and stays in the caches.
// Needs:    scores [heads, regions, regions] fp32; sm_80 on.
// Costs:    reads 4 * heads * regions^2 bytes from memory, and three times as many from L1 or L2.
// Numerics: as select.cu: integers, -0 equals 0, a NaN sets the head's status; ties are resolved in lists.cu.

#include "kernels/core/cuda_check.hpp"
#include "kernels/draft/draft.hpp"
#include "kernels/draft/find_digit.cuh"
#include "kernels/draft/selection.cuh"

namespace draft::gpu {
namespace {

constexpr int kThreads = 256;  // also the number of bins of an 8-bit digit

__global__ void __launch_bounds__(kThreads)
    row_threshold_kernel(int regions, std::uint32_t count, const float* __restrict__ scores,
                         Threshold* __restrict__ thresholds, std::int32_t* __restrict__ status) {
  __shared__ std::uint32_t bins[kThreads];
  __shared__ std::uint32_t warp_sums[kThreads / 32];
  __shared__ Digit answer;
  const float* own = scores + static_cast<std::int64_t>(blockIdx.x) * regions;
  Digit found{0, count, 0};
  std::uint32_t prefix = 0;
  bool found_nan = false;
  for (int shift = 24; shift >= 0; shift -= 8) {
    bins[threadIdx.x] = 0;
    __syncthreads();
    for (int column = static_cast<int>(threadIdx.x); column < regions; column += kThreads) {
      const float score = own[column];
      const std::uint32_t key = order_key(score);
      found_nan |= is_nan(score);
      // At the first digit the two shifts add up to 32 and leave 0: every entry is a candidate.
      if (((key ^ prefix) >> shift) >> 8 == 0) atomicAdd(&bins[(key >> shift) & 0xffU], 1U);
    }
    __syncthreads();
    found = find_digit<kThreads, 1>(bins, found.wanted, warp_sums, answer);
    prefix |= found.digit << shift;
  }
  if (found_nan) atomicOr(&status[blockIdx.x / static_cast<unsigned>(regions)], kNaNScore);
  if (threadIdx.x == 0) thresholds[blockIdx.x] = {prefix, found.wanted, found.size};
}

}  // namespace

void find_row_thresholds(const Layout& layout, std::uint32_t count, const float* scores, Threshold* thresholds,
                         std::int32_t* status, cudaStream_t stream) {
  const unsigned rows = static_cast<unsigned>(layout.heads) * static_cast<unsigned>(layout.regions());
  row_threshold_kernel<<<rows, kThreads, 0, stream>>>(layout.regions(), count, scores, thresholds, status);
  check_launch("row_threshold_kernel");
}

}  // namespace draft::gpu
