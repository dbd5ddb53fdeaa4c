#pragma once
// Sums, maxima and minima in fp64 over a CTA, in a fixed order: the same bits on every run.

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

/// Reduces `value` over the CTA; every thread gets the result. `parts` may be reused by the next call at once.
template <typename Join, int kWarps>
__device__ double join_block(double value, Join join, double (&parts)[kWarps]) {
  value = reduce_warp(value, join);
  __syncthreads();  // all threads have read `parts` of the call before
  return reduce_warps(value, join, parts);
}

}  // namespace draft::gpu
