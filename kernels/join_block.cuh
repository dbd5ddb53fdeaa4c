#pragma once
// Sums and extremes in fp64 over a thread block, the same bits on every run.

namespace draft::gpu {

struct Add {
  __device__ double operator()(double a, double b) const { return a + b; }
};
struct Higher {
  __device__ double operator()(double a, double b) const { return fmax(a, b); }
};
struct Lower {
  __device__ double operator()(double a, double b) const { return fmin(a, b); }
};

/// The same value in every thread, joined in a fixed order. `parts` may be used again at once.
template <typename Join, int kWarps>
__device__ double join_block(double value, Join join, double (&parts)[kWarps]) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value = join(value, __shfl_xor_sync(~0U, value, distance));
  __syncthreads();  // everyone is done with what stood there
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = parts[0];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) value = join(value, parts[warp]);
  return value;
}

}  // namespace draft::gpu
