// Idea:     S~ = Q~ K~^T (eq. 6) for every head, on the tensor cores with fp32's accuracy: three TF32 products
//           (product_sm90.cuh, elsewhere product.cuh).
// Map:      one CTA of 256 threads for each 128 x 128 tile of a head's map.
// Needs:    fp32 pooled rows [heads, regions, head_dim], 16-byte aligned, head_dim a multiple of 8; at most kMostBlocks
//           regions; sm_80 on, wgmma where there is code for sm_90a.
// Costs:    6 * heads * regions^2 * head_dim FLOPs in TF32; 4 * heads * regions^2 bytes written; pooled rows from L2.
// Numerics: sums in fp32 in a fixed order, each product with a relative error of at most 3 * 2^-20. A row with a number
//           that is not finite becomes NaN.

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/draft/draft.hpp"
#include "kernels/draft/product.cuh"
#include "kernels/draft/product_sm90.cuh"

namespace draft::gpu {
namespace {

template <typename Product>
__device__ inline void logits_tile(int regions, int dim, const float* __restrict__ pooled_q,
                                   const float* __restrict__ pooled_k, float* __restrict__ logits,
                                   unsigned char* memory) {
  const int first_row = static_cast<int>(blockIdx.y) * 128, first_column = static_cast<int>(blockIdx.x) * 128;
  const std::int64_t head = static_cast<std::int64_t>(blockIdx.z) * regions;
  Product tile;
  tile.compute(pooled_q + head * dim, pooled_k + head * dim, regions, dim, first_row, first_column, memory);
  store_tile(tile, first_row, first_column, regions, logits + head * regions, memory);
}

__global__ void __launch_bounds__(DraftProduct::kThreads, 2)
    draft_logits_kernel(int regions, int dim, const float* __restrict__ pooled_q, const float* __restrict__ pooled_k,
                        float* __restrict__ logits) {
  extern __shared__ __align__(1024) unsigned char memory[];
  logits_tile<DraftProduct>(regions, dim, pooled_q, pooled_k, logits, memory);
}

__global__ void __launch_bounds__(DraftProductSm90::kThreads, 2)
    draft_logits_sm90_kernel(int regions, int dim, const float* __restrict__ pooled_q,
                             const float* __restrict__ pooled_k, float* __restrict__ logits) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) unsigned char memory[];
  logits_tile<DraftProductSm90>(regions, dim, pooled_q, pooled_k, logits, memory);
#endif
}

}  // namespace

void draft_logits(const Layout& layout, const float* pooled_q, const float* pooled_k, float* logits,
                  cudaStream_t stream) {
  require_valid(layout);
  require_aligned("draft_logits: pooled_q", pooled_q);
  require_aligned("draft_logits: pooled_k", pooled_k);
  require_aligned("draft_logits: logits", logits);
  const auto launch = [&](auto kernel, int threads, int shared) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared), "cudaFuncSetAttribute");
    const auto tiles = static_cast<unsigned>((layout.regions() + 127) / 128);
    const dim3 grid(tiles, tiles, static_cast<unsigned>(layout.heads));
    kernel<<<grid, threads, shared, stream>>>(layout.regions(), layout.head_dim, pooled_q, pooled_k, logits);
    check_launch("draft_logits_kernel");
  };
  if (runs_sm90a()) {
    launch(draft_logits_sm90_kernel, DraftProductSm90::kThreads, DraftProductSm90::kSharedBytes);
  } else {
    launch(draft_logits_kernel, DraftProduct::kThreads, DraftProduct::kSharedBytes);
  }
}

}  // namespace draft::gpu
