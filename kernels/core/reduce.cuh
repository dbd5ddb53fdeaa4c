#pragma once
// Sums and maxima over a CTA, in a fixed order: the same bits on every run.

namespace draft::gpu {

/// The larger of two numbers; NaN if either is NaN, unlike fmaxf.
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

/// Reduces over the warp; every lane gets the result.
template <typename Number, typename Join>
__device__ Number reduce_warp(Number value, Join join) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value = join(value, __shfl_xor_sync(~0U, value, distance));
  return value;
}

/// Reduces one value a warp over the CTA; every thread gets the result. No thread may still read `parts` from another
/// reduction.
template <typename Number, typename Join, int kWarps>
__device__ Number reduce_warps(Number value, Join join, Number (&parts)[kWarps]) {
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = parts[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) value = join(value, parts[warp]);
  return value;
}

/// Reduces over the CTA; every thread gets the result. No thread may still read `parts` from another reduction.
template <typename Number, typename Join, int kWarps>
__device__ Number reduce_block(Number value, Join join, Number (&parts)[kWarps]) {
  return reduce_warps(reduce_warp(value, join), join, parts);
}

}  // namespace draft::gpu
