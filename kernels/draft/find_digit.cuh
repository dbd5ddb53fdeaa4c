#pragma once
// One step of a radix select: the digit of the key of a given rank, from a histogram of the candidates' digits.

#include <cstdint>

namespace draft::gpu {

/// One digit of the key that the radix select looks for.
struct Digit {
  std::uint32_t digit;
  std::uint32_t wanted;  // its rank, from 1, among the candidates of this digit
  std::uint32_t size;    // candidates of this digit
};

/// The digit of the `wanted`-th largest candidate, 1 <= wanted <= number of candidates. `bins` holds the number of
/// candidates of each digit; it has kThreads * kPerThread entries in shared or global memory. Every thread of the CTA
/// calls it with the same arguments and gets the same answer. `warp_sums` and `answer` are scratch in shared memory.
template <int kThreads, int kPerThread>
__device__ Digit find_digit(const std::uint32_t* bins, std::uint32_t wanted, std::uint32_t (&warp_sums)[kThreads / 32],
                            Digit& answer) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int highest = kThreads * kPerThread - 1 - thread * kPerThread;  // thread 0 holds the largest digits
  std::uint32_t own[kPerThread];
  std::uint32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) sum += own[i] = bins[highest - i];
  std::uint32_t above = sum;  // after the loop: candidates of this lane's digits and of the warp's larger digits
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const std::uint32_t other = __shfl_up_sync(~0U, above, distance);
    if (lane >= distance) above += other;
  }
  if (lane == 31) warp_sums[warp] = above;
  __syncthreads();
  above -= sum;
  above += __reduce_add_sync(~0U, lane < warp ? warp_sums[lane] : 0U);
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    if (above < wanted && wanted <= above + own[i]) {
      answer = {static_cast<std::uint32_t>(highest - i), wanted - above, own[i]};
    }
    above += own[i];
  }
  __syncthreads();
  return answer;
}

}  // namespace draft::gpu
