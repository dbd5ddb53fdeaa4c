// Idea:     checks ||P_u - P^M_u||_1 = 2 mu_u (step 1 of Theorem 3.5's proof): sums the left side element by element
//           for every 128th video token, with P from an fp64 softmax and P^M from one over the kept columns alone.
// Map:      logits: one thread for each key, for 8 rows; softmax: one CTA of 256 threads for each row; errors: one CTA
//           for each row and mask, whose warps take one region at a time.
// Needs:    sm_80 on; head_dim 64 or 128; bf16 or fp16; q, k in token order, aligned to 16 bytes; any region size.
// Costs:    2 * rows * tokens * head_dim fp64 FLOPs for P; 24 rows tokens bytes read for each mask.
// Numerics: fp64 throughout, sums in a fixed order; shares no code with the sweep that it checks. Memory holds log P
//           rather than P, so that a row which keeps almost no mass can take the maximum of what it keeps.

#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/core/block_rows.cuh"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/element.cuh"
#include "kernels/core/join_block.cuh"
#include "kernels/sweep/arguments.hpp"
#include "kernels/sweep/sweeps.hpp"

namespace draft::gpu {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kThreads = 256;
constexpr int kRows = 8;  // rows for which a thread computes logits of its key
constexpr int kMostDim = 128;

template <Element kElement>
__global__ void __launch_bounds__(kThreads)
    logits_kernel(const __grid_constant__ SweepCall call, int head, int first, int rows, double* __restrict__ logits) {
  __shared__ double q[kRows][kMostDim];
  const Layout& layout = call.layout;
  const int dim = layout.head_dim, tokens = layout.tokens(), first_row = static_cast<int>(blockIdx.y) * kRows;
  const auto* q_vectors = static_cast<const uint4*>(call.q);
  for (int i = static_cast<int>(threadIdx.x); i < kRows * dim / kVector; i += kThreads) {
    const int row = i / (dim / kVector), vector = i % (dim / kVector);
    float wide[kVector] = {};
    if (first_row + row < rows) {
      const int token = (first + first_row + row) * kCheckedEvery;
      widen<kElement>(q_vectors[layout.offset(head, token) / kVector + vector], wide);
    }
#pragma unroll
    for (int c = 0; c < kVector; ++c) q[row][vector * kVector + c] = wide[c];
  }
  __syncthreads();
  const int key = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (key >= tokens) return;
  const uint4* k_vectors = static_cast<const uint4*>(call.k) + layout.offset(head, key) / kVector;
  double sum[kRows] = {};
  for (int vector = 0; vector < dim / kVector; ++vector) {
    float wide[kVector];
    widen<kElement>(k_vectors[vector], wide);
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      const double channel = wide[c];
#pragma unroll
      for (int row = 0; row < kRows; ++row) sum[row] = fma(q[row][vector * kVector + c], channel, sum[row]);
    }
  }
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (first_row + row < rows)
      logits[static_cast<std::int64_t>(first_row + row) * tokens + key] = call.scale * sum[row];
  }
}

/// Logits to log P.
__global__ void __launch_bounds__(kThreads) log_softmax64_kernel(int tokens, double* __restrict__ rows) {
  __shared__ double parts[kThreads / 32];
  double* own = rows + static_cast<std::int64_t>(blockIdx.x) * tokens;
  double highest = -kInfinity, sum = 0.0;
  for (int key = static_cast<int>(threadIdx.x); key < tokens; key += kThreads) highest = fmax(highest, own[key]);
  highest = join_block(highest, Higher{}, parts);
  for (int key = static_cast<int>(threadIdx.x); key < tokens; key += kThreads) sum += exp(own[key] - highest);
  // Subtracted in two steps: highest + log(sum) in one number would round the logarithm away beside a large logit.
  const double rest = log(join_block(sum, Add{}, parts));
  for (int key = static_cast<int>(threadIdx.x); key < tokens; key += kThreads) own[key] = own[key] - highest - rest;
}

__global__ void __launch_bounds__(kThreads, 2)
    row_error_kernel(const __grid_constant__ Layout layout, const __grid_constant__ BlockMap map, NestedMasks family,
                     int head, int first, const double* __restrict__ log_probabilities, double* __restrict__ row_l1) {
  __shared__ double parts[kThreads / 32];
  const int row = static_cast<int>(blockIdx.x), mask = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % 32, regions = layout.regions(), tokens = layout.tokens();
  const double* log_p = log_probabilities + static_cast<std::int64_t>(row) * tokens;
  const int own_region = layout.block_of((first + row) * kCheckedEvery);
  const std::uint8_t* levels =
      family.levels + layout.map_offset(head) + static_cast<std::int64_t>(own_region) * regions;
  const auto each = [&](auto&& visit) {
    for (int region = static_cast<int>(threadIdx.x) / 32; region < regions; region += kThreads / 32) {
      const bool is_kept = levels[region] <= mask;
      const BlockRows rows = map.rows(region);
#pragma unroll 1
      for (int i = lane; i < rows.count; i += 32) visit(log_p[rows.token(i)], is_kept);
    }
    for (int token = layout.video() + static_cast<int>(threadIdx.x); token < tokens; token += kThreads) {
      visit(log_p[token], true);
    }
  };
  double highest = -kInfinity, kept = 0.0, l1 = 0.0;
  each([&](double value, bool is_kept) { highest = is_kept ? fmax(highest, value) : highest; });
  highest = join_block(highest, Higher{}, parts);
  each([&](double value, bool is_kept) { kept += is_kept ? exp(value - highest) : 0.0; });
  kept = join_block(kept, Add{}, parts);
  each([&](double value, bool is_kept) {
    const double p = exp(value);
    l1 += is_kept ? fabs(exp(value - highest) / kept - p) : p;
  });
  l1 = join_block(l1, Add{}, parts);
  if (threadIdx.x == 0) {
    row_l1[static_cast<std::int64_t>(mask) * gridDim.x + row] = highest == -kInfinity ? -1.0 : l1;  // keeps nothing
  }
}

void require_rows(const Layout& layout, int head, int first, int rows) {
  if (head >= 0 && head < layout.heads && first >= 0 && rows >= 1 && first <= checked_rows(layout) - rows) return;
  throw std::invalid_argument("row check: wanted a head below " + std::to_string(layout.heads) + " and rows below " +
                              std::to_string(checked_rows(layout)) + ", found head " + std::to_string(head) +
                              ", rows " + std::to_string(first) + " to " + std::to_string(first + rows - 1));
}

}  // namespace

void checked_probabilities(const SweepCall& call, int head, int first, int rows, double* log_probabilities,
                           cudaStream_t stream) {
  require_valid(call, false);
  require_rows(call.layout, head, first, rows);
  require_aligned("row check: log probabilities", log_probabilities);
  const int tokens = call.layout.tokens();
  const dim3 grid((tokens + kThreads - 1) / kThreads, (rows + kRows - 1) / kRows);
  if (call.element == Element::bfloat16) {
    logits_kernel<Element::bfloat16><<<grid, kThreads, 0, stream>>>(call, head, first, rows, log_probabilities);
  } else {
    logits_kernel<Element::float16><<<grid, kThreads, 0, stream>>>(call, head, first, rows, log_probabilities);
  }
  check_launch("logits_kernel");
  log_softmax64_kernel<<<rows, kThreads, 0, stream>>>(tokens, log_probabilities);
  check_launch("log_softmax64_kernel");
}

void check_rows(const Layout& layout, const NestedMasks& family, int head, int first, int rows,
                const double* log_probabilities, double* row_l1, cudaStream_t stream) {
  require_valid(layout);
  require_valid(family);
  require_rows(layout, head, first, rows);
  require_aligned("row check: log probabilities", log_probabilities);
  require_aligned("row check: row_l1", row_l1);
  row_error_kernel<<<dim3(rows, family.masks), kThreads, 0, stream>>>(layout, BlockMap(layout, false), family, head,
                                                                      first, log_probabilities, row_l1);
  check_launch("row_error_kernel");
}

}  // namespace draft::gpu
