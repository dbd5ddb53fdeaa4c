// Idea:     from levels to masks. Mask m keeps levels 0 to m and drops the rest. On the kept columns P - P^M = -mu_u
//           P^M, so ||P_u - P^M_u||_2^2 = (sum over dropped columns of P^2) + mu_u^2 sum (P^M)^2. Then sums over a
//           head's rows.
// Map:      one thread for each row for the norms, one CTA of 256 threads for each mask for the sums; the dense
//           output's sums by 256 CTAs a head and one that adds their results.
// Needs:    the mask sweep's LevelRows; sm_80 on.
// Costs:    reads 40 video (masks + 1) bytes a head twice and the dense output once; writes 32 video masks, 16 more for
//           a remainder.
// Numerics: fp64. Dropped mass is the sum of what is dropped: 1 - kept would lose the digits of a small mu. Sums over
//           rows in a fixed order: same input, same bits.

#include <limits>

#include "kernels/core/cuda_check.hpp"
#include "kernels/core/join_block.cuh"
#include "kernels/sweep/arguments.hpp"
#include "kernels/sweep/mask_rows.hpp"
#include "kernels/sweep/sweeps.hpp"

namespace draft::gpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kThreads = 256;
constexpr int kParts = 256;  // CTAs that share a head's dense output

__global__ void __launch_bounds__(kThreads, 4)
    mask_rows_kernel(int video, int masks, const LevelRow* __restrict__ rows, MaskEffects out) {
  const int row = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (row >= video) return;
  const std::int64_t head = blockIdx.y;
  const LevelRow* own = rows + head * (masks + 1) * video + row;
  const std::int64_t first = head * masks * video + row;
  double kept = 0.0;
  for (int mask = 0; mask < masks; ++mask) {
    const std::int64_t level = static_cast<std::int64_t>(mask) * video;
    kept += own[level].mass;
    out.kept[first + level] = kept;
    out.output_error2[first + level] = own[level].error2;
  }
  double dropped = 0.0, dropped_square = 0.0;
  for (int mask = masks - 1; mask >= 0; --mask) {
    const std::int64_t level = static_cast<std::int64_t>(mask) * video;
    dropped += own[level + video].mass;
    dropped_square += own[level + video].square;
    out.dropped[first + level] = dropped;
    out.probs_error2[first + level] = dropped_square + dropped * dropped * own[level].sharpness;
    if (out.sharpness != nullptr) out.sharpness[first + level] = own[level].sharpness;
    if (out.dropped_square != nullptr) out.dropped_square[first + level] = dropped_square;
  }
}

__global__ void __launch_bounds__(kThreads, 4)
    mask_sums_kernel(int video, int masks, const LevelRow* __restrict__ rows, double* __restrict__ sums) {
  __shared__ double parts[kThreads / 32];
  const std::int64_t mask = blockIdx.x, head = blockIdx.y;
  const LevelRow* own = rows + (head * (masks + 1) + mask) * video;
  double error1 = 0.0, dot = 0.0, square = 0.0;
#pragma unroll 2
  for (int row = static_cast<int>(threadIdx.x); row < video; row += kThreads) {
    error1 += own[row].error1;
    dot += own[row].dot;
    square += own[row].own2;
  }
  error1 = join_block(error1, Add{}, parts);
  dot = join_block(dot, Add{}, parts);
  square = join_block(square, Add{}, parts);
  if (threadIdx.x != 0) return;
  double* out = sums + (head * masks + mask) * 3;
  out[0] = error1;
  out[1] = dot;
  out[2] = square;
}

struct OutputSums {
  double square = 0.0, absolute = 0.0;
  double lowest = kInfinity, highest = -kInfinity;

  __device__ void join_and_write(double (&parts)[kThreads / 32], double* out) {
    square = join_block(square, Add{}, parts);
    absolute = join_block(absolute, Add{}, parts);
    lowest = join_block(lowest, Lower{}, parts);
    highest = join_block(highest, Higher{}, parts);
    if (threadIdx.x != 0) return;
    out[0] = square;
    out[1] = absolute;
    out[2] = lowest;
    out[3] = highest;
  }
};

__global__ void __launch_bounds__(kThreads, 4)
    output_parts_kernel(std::int64_t size, const float* __restrict__ dense, double* __restrict__ sums) {
  __shared__ double parts[kThreads / 32];
  const float* own = dense + blockIdx.y * size;
  OutputSums found;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < size;
       i += kParts * kThreads) {
    const double value = own[i];
    found.square += value * value;
    found.absolute += fabs(value);
    found.lowest = fmin(found.lowest, value);
    found.highest = fmax(found.highest, value);
  }
  found.join_and_write(parts, sums + (static_cast<std::int64_t>(blockIdx.y) * kParts + blockIdx.x) * 4);
}

__global__ void __launch_bounds__(kThreads, 4)
    output_sums_kernel(const double* __restrict__ found, double* __restrict__ sums) {
  static_assert(kParts == kThreads);
  __shared__ double parts[kThreads / 32];
  const double* own = found + (static_cast<std::int64_t>(blockIdx.x) * kParts + threadIdx.x) * 4;
  OutputSums part{own[0], own[1], own[2], own[3]};
  part.join_and_write(parts, sums + static_cast<std::int64_t>(blockIdx.x) * 4);
}

}  // namespace

void finish_masks(const Layout& layout, int masks, const LevelRow* rows, const MaskEffects& effects,
                  cudaStream_t stream) {
  require_aligned("mask effects: dropped", effects.dropped);
  require_aligned("mask effects: kept", effects.kept);
  require_aligned("mask effects: probs_error2", effects.probs_error2);
  require_aligned("mask effects: output_error2", effects.output_error2);
  require_aligned("mask effects: sums", effects.sums);
  const int video = layout.video();
  mask_rows_kernel<<<dim3((video + kThreads - 1) / kThreads, layout.heads), kThreads, 0, stream>>>(video, masks, rows,
                                                                                                   effects);
  check_launch("mask_rows_kernel");
  mask_sums_kernel<<<dim3(masks, layout.heads), kThreads, 0, stream>>>(video, masks, rows, effects.sums);
  check_launch("mask_sums_kernel");
}

std::size_t output_sums_scratch(const Layout& layout) {
  require_valid(layout);
  return static_cast<std::size_t>(layout.heads) * kParts * 4 * sizeof(double);
}

void sum_outputs(const Layout& layout, const float* dense, void* scratch, double* sums, cudaStream_t stream) {
  require_valid(layout);
  require_aligned("output sums: dense", dense);
  require_aligned("output sums: scratch", scratch);
  require_aligned("output sums: sums", sums);
  const std::int64_t size = static_cast<std::int64_t>(layout.video()) * layout.head_dim;
  auto* found = static_cast<double*>(scratch);
  output_parts_kernel<<<dim3(kParts, layout.heads), kThreads, 0, stream>>>(size, dense, found);
  check_launch("output_parts_kernel");
  output_sums_kernel<<<layout.heads, kThreads, 0, stream>>>(found, sums);
  check_launch("output_sums_kernel");
}

}  // namespace draft::gpu
