// Idea:     A_draft = softmax of each row of scale * Q~ K~^T (eqs. 6, 3) in one kernel: S~ is never written. The CTAs
//           that compute the tiles of one row form a cluster and exchange their largest logits and sums of
//           exponentials.
// Map:      one CTA of 256 threads for each 128 x 128 tile (product_sm90.cuh), one cluster for each row of tiles.
// Needs:    as logits.cu; sm_90a and at most 1,024 regions (8 tiles, the largest portable cluster). Elsewhere
//           draft_logits and softmax_rows do the work, in two kernels.
// Costs:    as logits.cu, and two exponentials an entry.
// Numerics: 2^((s - max) * scale * log2(e)) * (1 / sum) in fp32, sums in a fixed order. A row with a NaN, or with an
//           infinite largest logit, becomes NaN.

#include <cmath>
#include <stdexcept>
#include <string>

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/logarithms.hpp"
#include "kernels/core/reduce.cuh"
#include "kernels/draft/draft.hpp"
#include "kernels/draft/product_sm90.cuh"
#include "kernels/ptx/sm90.cuh"

namespace draft::gpu {
namespace {

constexpr int kMostTiles = 8;

/// The softmax state of some columns of a row: the largest entry, and the sum of 2^((s - largest) * scale).
struct RowPart {
  float largest, sum;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
__device__ inline RowPart join(RowPart a, RowPart b, float scale) {
  const float largest = Larger{}(a.largest, b.largest);
  // A part whose entries are all -infinity adds 0; exp(-inf - -inf) would be NaN.
  const auto share = [&](RowPart part) {
    return part.largest == -INFINITY ? 0.0F : part.sum * exp2f((part.largest - largest) * scale);
  };
  return {largest, share(a) + share(b)};
}

__device__ inline RowPart part_of_cluster(std::uint32_t address, int rank) {
  RowPart part;
  asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];"
               : "=f"(part.largest), "=f"(part.sum)
               : "r"(address_in_cluster(address, rank))
               : "memory");
  return part;
}
#endif

__global__ void __launch_bounds__(DraftProductSm90::kThreads, 2)
    draft_probabilities_kernel(int regions, int dim, float scale, const float* __restrict__ pooled_q,
                               const float* __restrict__ pooled_k, float* __restrict__ probabilities) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ RowPart own[128], whole[128];
  const int first_row = static_cast<int>(blockIdx.y) * 128, first_column = static_cast<int>(blockIdx.x) * 128;
  const std::int64_t head = static_cast<std::int64_t>(blockIdx.z) * regions;
  DraftProductSm90 tile;
  tile.compute(pooled_q + head * dim, pooled_k + head * dim, regions, dim, first_row, first_column, memory);

  // Four lanes hold a row of the tile, 32 columns each.
#pragma unroll
  for (int r = 0; r < DraftProductSm90::kRows; ++r) {
    RowPart part{-INFINITY, 0.0F};
#pragma unroll
    for (int n = 0; n < DraftProductSm90::kPairs; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (first_column + DraftProductSm90::column(n) + i >= regions) tile.set(r, n, i, -INFINITY);
        part.largest = Larger{}(part.largest, tile.at(r, n, i));
      }
    }
    part.largest = Larger{}(part.largest, __shfl_xor_sync(~0U, part.largest, 1));
    part.largest = Larger{}(part.largest, __shfl_xor_sync(~0U, part.largest, 2));
#pragma unroll
    for (int n = 0; n < DraftProductSm90::kPairs; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) part.sum += exp2f((tile.at(r, n, i) - part.largest) * scale);
    }
    part.sum += __shfl_xor_sync(~0U, part.sum, 1);
    part.sum += __shfl_xor_sync(~0U, part.sum, 2);
    if (threadIdx.x % 4 == 0) own[DraftProductSm90::row(r)] = part;
  }
  meet_cluster();
  if (threadIdx.x < 128) {
    const std::uint32_t address = shared_address(&own[threadIdx.x]);
    RowPart parts[kMostTiles];  // loaded before the first is used, so that the loads overlap
    const int tiles = static_cast<int>(gridDim.x);
#pragma unroll
    for (int rank = 0; rank < kMostTiles; ++rank) parts[rank] = part_of_cluster(address, min(rank, tiles - 1));
    RowPart all = parts[0];
#pragma unroll
    for (int rank = 1; rank < kMostTiles; ++rank) all = rank < tiles ? join(all, parts[rank], scale) : all;
    whole[threadIdx.x] = {all.largest, 1.0F / all.sum};
  }
  meet_cluster();  // `whole` is complete; and no CTA ends while another may still read its `own`

#pragma unroll
  for (int r = 0; r < DraftProductSm90::kRows; ++r) {
    const RowPart of_row = whole[DraftProductSm90::row(r)];
#pragma unroll
    for (int n = 0; n < DraftProductSm90::kPairs; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        tile.set(r, n, i, exp2f((tile.at(r, n, i) - of_row.largest) * scale) * of_row.sum);
      }
    }
  }
  store_tile(tile, first_row, first_column, regions, probabilities + head * regions, memory);
#endif
}

}  // namespace

void draft_probabilities(const Layout& layout, float scale, const float* pooled_q, const float* pooled_k,
                         float* probabilities, cudaStream_t stream) {
  require_valid(layout);
  require_aligned("draft_probabilities: pooled_q", pooled_q);
  require_aligned("draft_probabilities: pooled_k", pooled_k);
  require_aligned("draft_probabilities: probabilities", probabilities);
  if (!(std::isfinite(scale) && scale > 0.0F)) {
    throw std::invalid_argument("draft_probabilities: scale must be finite and positive, found " +
                                std::to_string(scale));
  }
  const auto tiles = static_cast<unsigned>((layout.regions() + 127) / 128);
  if (tiles > kMostTiles || !runs_sm90a()) {
    draft_logits(layout, pooled_q, pooled_k, probabilities, stream);
    softmax_rows(layout, scale, probabilities, probabilities, stream);
    return;
  }
  constexpr int kShared = DraftProductSm90::kSharedBytes;
  check(cudaFuncSetAttribute(draft_probabilities_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared),
        "cudaFuncSetAttribute");
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = tiles;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(tiles, tiles, static_cast<unsigned>(layout.heads));
  config.blockDim = DraftProductSm90::kThreads;
  config.dynamicSmemBytes = kShared;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, draft_probabilities_kernel, layout.regions(), layout.head_dim,
                           scale * static_cast<float>(kLog2E), pooled_q, pooled_k, probabilities),
        "draft_probabilities_kernel");
}

}  // namespace draft::gpu
