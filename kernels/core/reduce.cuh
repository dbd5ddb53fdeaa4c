#pragma once
// Sums and maxima over a thread block, the same bits on every run.

namespace draft::gpu {

/// NaN if either is.
struct Larger {
  __device__ float operator()(float a, float b) const {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
  }
};
struct Plus {
  __device__ float operator()(float a, float b) const { return a + b; }
};

/// A warp's values joined, the same in every lane.
template <typename Number, typename Join>
__device__ Number reduce_warp(Number value, Join join) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value = join(value, __shfl_xor_sync(~0U, value, distance));
  return value;
}

/// The warps' values joined, the same in every thread. `parts` must not be in use by another reduction.
template <typename Number, typename Join, int kWarps>
__device__ Number reduce_warps(Number value, Join join, Number (&parts)[kWarps]) {
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = parts[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) value = join(value, parts[warp]);
  return value;
}

/// The same value in every thread, joined in a fixed order. `parts` must not be in use by another reduction.
template <typename Number, typename Join, int kWarps>
__device__ Number reduce_block(Number value, Join join, Number (&parts)[kWarps]) {
  return reduce_warps(reduce_warp(value, join), join, parts);
}

}  // namespace draft::gpu
