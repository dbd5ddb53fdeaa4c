// Idea:     O = softmax(scale Q K^T) V over the kept blocks of each block row (eq. 5), one pass with a running
//           maximum: nothing of size tokens^2 is stored. Dense attention is every block kept.
// Map:      one CTA of 4 warps takes up to 128 queries of one block row of one head (64 where a region has no
//           more), 64 keys at a time; a warp has 32 (16) of the queries and all keys. V's tile is copied while
//           Q K^T runs, the next K's while P V runs; two CTAs on a multiprocessor hide the rest.
// Needs:    sm_80 on; head_dim 64 or 128; bf16 or fp16; q, k, v, o in token or region order, aligned to 16 bytes;
//           lists as write_lists makes them, or none for dense.
// Costs:    4 * 128 * 128 * head_dim FLOPs a kept block of 128 x 128; K and V read once a block row of queries.
// Numerics: S, the softmax and O in fp32, base 2; P rounded to the element type before P V. Keys behind a block's
//           end weigh 0 whatever the logits are. A row without a key has output 0 and lse = -inf. The order of
//           sums is fixed by the lists: same input, same bits.

#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/arguments.hpp"
#include "kernels/block_rows.cuh"
#include "kernels/cuda_check.hpp"
#include "kernels/mma.cuh"

namespace draft::gpu {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kKeys = 64;  // a tile of keys
constexpr float kLog2E = 1.4426950408889634F;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The tiles of keys that a block row attends to, one after the other.
struct KeyTiles {
  const Attention& call;
  const std::uint16_t* columns;  // null: all blocks
  int blocks;
  int place = 0;  // in the list
  int start = 0;  // first row of the tile in its block
  BlockRows rows;

  __device__ KeyTiles(const Attention& the_call, const std::uint16_t* the_columns, int the_blocks)
      : call(the_call), columns(the_columns), blocks(the_blocks), rows(at(0)) {}
  __device__ BlockRows at(int index) const {
    const int block = columns == nullptr ? index : columns[min(index, max(blocks - 1, 0))];
    return rows_of_block(call.layout, index < blocks ? block : 0, call.region_order);
  }
  __device__ bool done() const { return place >= blocks; }
  __device__ int keys() const { return min(kKeys, rows.count - start); }
  __device__ void next() {
    start += kKeys;
    if (start < rows.count) return;
    start = 0;
    if (++place < blocks) rows = at(place);
  }
};

/// Starts copying kSize rows of a block, from row `start` on, into a tile; rows behind the block's end are zeros.
/// `head` is the offset of the head's first element.
template <int kDim, int kSize>
__device__ void copy_tile(std::uint32_t tile, const void* tensor, std::int64_t head, const BlockRows& rows, int start) {
  constexpr int kChunks = kDim / 8, kStep = kThreads / kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
#pragma unroll
  for (int i = 0; i < kSize / kStep; ++i) {
    const int row = static_cast<int>(threadIdx.x) / kChunks + i * kStep;
    const bool valid = start + row < rows.count;
    const std::int64_t token = rows.token(valid ? start + row : 0);
    copy_async(tile + chunk_offset<kDim>(row, chunk),
               static_cast<const std::uint16_t*>(tensor) + (head + token * kDim + chunk * 8), valid);
  }
}

/// kTiles: how many times 16 queries a warp has.
template <Element kElement, int kDim, int kTiles>
__global__ void __launch_bounds__(kThreads, 2) attend_kernel(const __grid_constant__ Attention call) {
  constexpr int kQueries = kWarps * kTiles * 16;
  extern __shared__ __align__(128) unsigned char shared[];
  const std::uint32_t q_tile = shared_address(shared);
  const std::uint32_t k_tile = q_tile + kQueries * kDim * 2;
  const std::uint32_t v_tile = k_tile + kKeys * kDim * 2;

  const Layout& layout = call.layout;
  const int head = static_cast<int>(blockIdx.y), blocks = layout.blocks();
  const int tiles_a_block = (layout.region_tokens() + kQueries - 1) / kQueries;
  const std::int64_t list = static_cast<std::int64_t>(head) * blocks;
  const int turn = static_cast<int>(blockIdx.x) / tiles_a_block;
  const int block = call.order == nullptr ? turn : call.order[list + turn];
  const int query_start = static_cast<int>(blockIdx.x) % tiles_a_block * kQueries;
  const BlockRows queries = rows_of_block(layout, block, call.region_order);
  if (query_start >= queries.count) return;
  __shared__ BlockRows kept_queries;  // for the end: fewer registers in the loop
  if (threadIdx.x == 0) kept_queries = queries;

  const std::int64_t head_offset = layout.offset(head, 0);
  KeyTiles keys(call, call.columns == nullptr ? nullptr : call.columns + (list + block) * blocks,
                call.counts == nullptr ? blocks : call.counts[list + block]);

  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * kTiles * 16;  // of the warp's first query in the tile
  float o[kTiles][kDim / 8][4] = {};
  float highest[kTiles][2], total[kTiles][2] = {};  // of rows lane / 4 and lane / 4 + 8
#pragma unroll
  for (int t = 0; t < kTiles; ++t) highest[t][0] = highest[t][1] = -kInfinity;
  const float scale2 = call.scale * kLog2E;

  copy_tile<kDim, kQueries>(q_tile, call.q, head_offset, queries, query_start);
  if (!keys.done()) copy_tile<kDim, kKeys>(k_tile, call.k, head_offset, keys.rows, keys.start);
  commit_copies();

  while (!keys.done()) {
    wait_for_copies();
    __syncthreads();  // K is there, and everyone is done with V
    copy_tile<kDim, kKeys>(v_tile, call.v, head_offset, keys.rows, keys.start);
    commit_copies();
    const int valid = keys.keys();
    keys.next();

    float s[kTiles][kKeys / 8][4] = {};
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      std::uint32_t a[kTiles][4];
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        load_matrices(a[t], q_tile + chunk_offset<kDim>(warp_row + t * 16 + (lane & 15), 2 * d + (lane >> 4)));
      }
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        std::uint32_t b[4];
        load_matrices(b, k_tile + chunk_offset<kDim>(n * 16 + (lane & 7) + (lane >> 4) * 8, 2 * d + (lane >> 3 & 1)));
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          multiply_add<kElement>(s[t][2 * n], a[t], b[0], b[1]);
          multiply_add<kElement>(s[t][2 * n + 1], a[t], b[2], b[3]);
        }
      }
    }

    wait_for_copies();
    __syncthreads();  // V is there, and everyone is done with K
    if (valid < kKeys) {  // the same for the whole CTA
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (n * 8 + (lane & 3) * 2 + (i & 1) < valid) continue;
#pragma unroll
          for (int t = 0; t < kTiles; ++t) s[t][n][i] = -kInfinity;
        }
      }
    }
    std::uint32_t p[kTiles][kKeys / 16][4];  // P as the products' left side
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float risen = highest[t][half];
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) risen = fmaxf(risen, fmaxf(s[t][n][2 * half], s[t][n][2 * half + 1]));
        risen = fmaxf(risen, __shfl_xor_sync(0xffffffffU, risen, 1));
        risen = fmaxf(risen, __shfl_xor_sync(0xffffffffU, risen, 2));
        const float shrink = exp2_fast((highest[t][half] - risen) * scale2);  // 0 the first time
        const float shift = risen * scale2;
        highest[t][half] = risen;
        float sum = 0.0F;
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
          const float low = exp2_fast(fmaf(s[t][n][2 * half], scale2, -shift));
          const float high = exp2_fast(fmaf(s[t][n][2 * half + 1], scale2, -shift));
          sum += low + high;
          p[t][n / 2][n % 2 * 2 + half] = pack<kElement>(low, high);
        }
        total[t][half] = fmaf(total[t][half], shrink, sum);
#pragma unroll
        for (int d = 0; d < kDim / 8; ++d) {
          o[t][d][2 * half] *= shrink;
          o[t][d][2 * half + 1] *= shrink;
        }
      }
    }

    // Only now, though K has been free since the barrier: beside all of S the addresses would not fit in registers.
    if (!keys.done()) copy_tile<kDim, kKeys>(k_tile, call.k, head_offset, keys.rows, keys.start);
    commit_copies();
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
#pragma unroll
      for (int d = 0; d < kDim / 16; ++d) {
        std::uint32_t b[4];
        load_matrices_transposed(b, v_tile + chunk_offset<kDim>(n * 16 + (lane & 15), 2 * d + (lane >> 4)));
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          multiply_add<kElement>(o[t][2 * d], p[t][n], b[0], b[1]);
          multiply_add<kElement>(o[t][2 * d + 1], p[t][n], b[2], b[3]);
        }
      }
    }
  }

  // Each warp puts its rows of O where its rows of Q were, and writes them out in whole chunks.
  wait_for_copies();
  __syncthreads();  // Q's copy too, where there was no key at all
  float* lse = call.lse + static_cast<std::int64_t>(head) * layout.tokens();
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = total[t][half];
      sum += __shfl_xor_sync(0xffffffffU, sum, 1);
      sum += __shfl_xor_sync(0xffffffffU, sum, 2);
      const float inverse = sum > 0.0F ? 1.0F / sum : 0.0F;
      const int row = warp_row + t * 16 + half * 8 + lane / 4;
#pragma unroll
      for (int d = 0; d < kDim / 8; ++d) {
        const std::uint32_t pair = pack<kElement>(o[t][d][2 * half] * inverse, o[t][d][2 * half + 1] * inverse);
        *reinterpret_cast<std::uint32_t*>(shared + chunk_offset<kDim>(row, d) + (lane & 3) * 4) = pair;
      }
      if ((lane & 3) == 0 && query_start + row < kept_queries.count) {
        lse[kept_queries.token(query_start + row)] =
            sum > 0.0F ? fmaf(highest[t][half], call.scale, logf(sum)) : -kInfinity;
      }
    }
  }
  __syncwarp();
  std::uint16_t* o_head = static_cast<std::uint16_t*>(call.o) + head_offset;
  constexpr int kChunks = kDim / 8, kStep = 32 / kChunks;
  for (int i = lane / kChunks; i < kTiles * 16; i += kStep) {
    const int row = warp_row + i, chunk = lane % kChunks;
    if (query_start + row >= kept_queries.count) continue;
    const std::int64_t token = kept_queries.token(query_start + row);
    *reinterpret_cast<uint4*>(o_head + token * kDim + chunk * 8) =
        *reinterpret_cast<const uint4*>(shared + chunk_offset<kDim>(row, chunk));
  }
}

template <Element kElement, int kDim, int kTiles>
void launch(const Attention& call, cudaStream_t stream) {
  constexpr int kQueries = kWarps * kTiles * 16;
  constexpr int kShared = (kQueries + 2 * kKeys) * kDim * 2;
  const auto kernel = attend_kernel<kElement, kDim, kTiles>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), "cudaFuncSetAttribute");
  const int tiles_a_block = (call.layout.region_tokens() + kQueries - 1) / kQueries;
  kernel<<<dim3(call.layout.blocks() * tiles_a_block, call.layout.heads), kThreads, kShared, stream>>>(call);
  check_launch("attend_kernel");
}

template <Element kElement, int kDim>
void launch_for_region(const Attention& call, cudaStream_t stream) {
  call.layout.region_tokens() <= 64 ? launch<kElement, kDim, 1>(call, stream) : launch<kElement, kDim, 2>(call, stream);
}

template <Element kElement>
void launch_for_dim(const Attention& call, cudaStream_t stream) {
  call.layout.head_dim == 64 ? launch_for_region<kElement, 64>(call, stream)
                             : launch_for_region<kElement, 128>(call, stream);
}

}  // namespace

void attend_mma(const Attention& call, cudaStream_t stream) {
  require_valid(call.layout);
  if (call.layout.head_dim != 64 && call.layout.head_dim != 128) {
    throw std::invalid_argument("attend_mma: head_dim must be 64 or 128, found " + std::to_string(call.layout.head_dim));
  }
  if ((call.columns == nullptr) != (call.counts == nullptr)) {
    throw std::invalid_argument("attend_mma: wanted columns and counts, or neither, found one of them");
  }
  require_aligned("attend_mma: q", call.q);
  require_aligned("attend_mma: k", call.k);
  require_aligned("attend_mma: v", call.v);
  require_aligned("attend_mma: o", call.o);
  require_aligned("attend_mma: lse", call.lse);
  call.element == Element::bfloat16 ? launch_for_dim<Element::bfloat16>(call, stream)
                                    : launch_for_dim<Element::float16>(call, stream);
}

}  // namespace draft::gpu
