#pragma once
// Sums and extremes in fp64 over a thread block, the same bits on every run.

#include "kernels/core/reduce.cuh"

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
  value = reduce_warp(value, join);
  __syncthreads();  // everyone is done with what stood there
  return reduce_warps(value, join, parts);
}

}  // namespace draft::gpu
