// Idea:     O = softmax(scale Q K^T) V over the kept blocks of each block row (eq. 5), one pass with a running
//           maximum: nothing of size tokens^2 is stored. Dense attention is every block kept.
// Map:      one CTA of 4 warps has up to 128 queries of one block row of one head (64 if regions have at most 64
//           tokens) and goes through the keys 64 at a time; a warp has 32 (16) of the queries and all 64 keys. V's tile
//           is copied during Q K^T, the next K's during P V; a second CTA on the multiprocessor hides what is left.
// Needs:    sm_80 on; head_dim 64 or 128; bf16 or fp16; q, k, v, o in token or region order, of any strides
//           (strided.hpp), aligned to 16 bytes; lists as write_lists makes them, or none for dense; pooled rows for a
//           remainder, or none.
// Costs:    4 * 128 * 128 * head_dim FLOPs for each kept block of 128 x 128; each block row of queries reads its K and
//           V once. A remainder adds a tile of pooled rows for every 64 dropped regions to each block row of video.
// Numerics: S, the softmax and O in fp32, base 2; P rounded to the element type before P V. Rows of a tile past the
//           block's end get weight 0 whatever the logits are. A row without a key has output 0 and lse = -inf. The
//           lists fix the order of sums: same input, same bits.

#include <limits>
#include <stdexcept>
#include <string>

#include "kernels/attend/attention.hpp"
#include "kernels/attend/key_tiles.cuh"
#include "kernels/attend/remainder.hpp"
#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/logarithms.hpp"
#include "kernels/ptx/mma.cuh"

namespace draft::gpu {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
static_assert(kThreads == kCopyThreads);
constexpr int kKeys = kTileKeys;
constexpr float kSlack = 8.0F;  // O is scaled down once weights exceed 2^kSlack, far below fp16's largest number
constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Starts copying the queries of a block from row `start` on; rows past its end are filled with zeros.
template <int kDim, int kSize>
__device__ void copy_queries(std::uint32_t to, const std::uint16_t* head, std::uint32_t token_bytes,
                             const BlockRows& rows, int start) {
  constexpr int kChunks = kDim / 8, kStep = kThreads / kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
#pragma unroll
  for (int i = 0; i < kSize / kStep; ++i) {
    const int row = static_cast<int>(threadIdx.x) / kChunks + i * kStep;
    const bool valid = start + row < rows.count;
    const int token = rows.token(valid ? start + row : 0);
    copy_async(to + chunk_offset<kDim>(row, chunk), row_of(head + chunk * 8, token_bytes, token), valid);
  }
}

/// Products of 64 pooled rows become logits of whole regions. `terms`: what each lacks; -inf past the last one.
template <int kTiles>
__device__ void weigh_pooled(float (&s)[kTiles][kKeys / 8][4], const float (&terms)[kKeys], int lane) {
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n) {
    const float2 term = *reinterpret_cast<const float2*>(terms + n * 8 + (lane & 3) * 2);
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      s[t][n][0] += term.x;
      s[t][n][1] += term.y;
      s[t][n][2] += term.x;
      s[t][n][3] += term.y;
    }
  }
}

/// Those of a call's tensors.
struct MmaStrides {
  Strides q, k, v, o;
};

/// A warp has kTiles * 16 queries. scale2: softmax scale * log2 e, since exponentials are taken to base 2. `dropped` is
/// read with a remainder alone.
template <Element kElement, int kDim, int kTiles, bool kRemainder>
__global__ void __launch_bounds__(kThreads, kTiles == 1 ? 3 : 2)
    attend_kernel(const __grid_constant__ Attention call, const __grid_constant__ MmaStrides strides,
                  const __grid_constant__ BlockMap map, float scale2, const __grid_constant__ DroppedLists dropped) {
  constexpr int kQueries = kWarps * kTiles * 16;
  extern __shared__ __align__(256) unsigned char shared[];
  const std::uint32_t q_tile = shared_address(shared);
  const std::uint32_t k_tile = q_tile + kQueries * kDim * 2;
  const std::uint32_t v_tile = k_tile + kKeys * kDim * 2;

  const Layout& layout = call.layout;
  const int head = static_cast<int>(blockIdx.y), blocks = layout.blocks();
  const int tiles_a_block = (layout.region_tokens() + kQueries - 1) / kQueries;
  const std::int64_t list = static_cast<std::int64_t>(head) * blocks;
  const int work_tile = static_cast<int>(blockIdx.x) / tiles_a_block;
  const int block = call.lists.order == nullptr ? work_tile : call.lists.order[list + work_tile];
  const int query_start = static_cast<int>(blockIdx.x) % tiles_a_block * kQueries;
  const BlockRows queries = map.rows(block);
  if (query_start >= queries.count) return;
  __shared__ BlockRows kept_queries;  // for the epilogue; in shared memory, so the loop holds no registers for it
  if (threadIdx.x == 0) kept_queries = queries;

  const KeyRows k_head{static_cast<const std::uint16_t*>(call.k) + strides.k.offset(head, 0), strides.k.token_bytes()};
  const KeyRows v_head{static_cast<const std::uint16_t*>(call.v) + strides.v.offset(head, 0), strides.v.token_bytes()};
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int warp_row = warp * kTiles * 16;  // of the warp's first query in the tile
  __shared__ KeyTile tiles[2];              // tile j is in tiles[j % 2]
  __shared__ KeyWalk walk;
  copy_queries<kDim, kQueries>(q_tile, static_cast<const std::uint16_t*>(call.q) + strides.q.offset(head, 0),
                               strides.q.token_bytes(), queries, query_start);
  __shared__ PooledTiles pooled_storage;
  PooledTiles* const pooled = kRemainder ? &pooled_storage : nullptr;
  if (warp == 0) {
    const int kept = call.dense() ? blocks : call.lists.counts[list + block];
    walk.begin(map, call.dense() ? nullptr : call.lists.columns + (list + block) * blocks, kept);
    if constexpr (kRemainder) {
      if (lane == 0) {
        const std::int64_t row = static_cast<std::int64_t>(head) * layout.regions() + block;
        const std::int64_t first = static_cast<std::int64_t>(head) * layout.regions() * kDim;
        pooled->rows = kept < blocks ? dropped.counts[row] : 0;  // a text row drops nothing
        pooled->list = dropped.regions + row * dropped.length;
        pooled->k = {static_cast<const std::uint16_t*>(call.pooled_k) + first, kDim * 2};
        pooled->v = {static_cast<const std::uint16_t*>(call.pooled_v) + first, kDim * 2};
        pooled->key_k = k_head;
        pooled->key_v = v_head;
        pooled->whole = dropped.whole;
        pooled->narrow = dropped.narrow;
        pooled->low = dropped.low;
      }
      __syncwarp();
      pooled->copy_list(0);
    }
    // A tile's list has arrived with an earlier tile's copies, but for these.
    const auto write_first = [&](KeyTile& tile) {
      if constexpr (kRemainder) {
        commit_copies();
        wait_for_copies();
      }
      walk.write_next(map, tile, pooled);
    };
    write_first(tiles[0]);
    write_first(tiles[1]);
  }
  __syncthreads();
  const KeyCopy<kDim> copy;
  KeyRows from = kRemainder ? tiles[0].k : k_head;
#pragma unroll
  for (int piece = 0; piece < copy.kPieces; ++piece) copy.start(piece, k_tile, from, tiles[0]);
  commit_copies();

  // Addresses that this lane gives to ldmatrix, for the tile's first 16 rows and channels. The swizzle makes channel
  // 16 d an XOR with 32 d and row 16 n an addition of n * kRows16.
  const std::uint32_t q_row = q_tile + chunk_offset<kDim>(warp_row + (lane & 15), lane >> 4);
  const std::uint32_t k_row = k_tile + chunk_offset<kDim>((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1);
  const std::uint32_t v_row = v_tile + chunk_offset<kDim>(lane & 15, lane >> 4);
  constexpr int kRows16 = 16 * kDim * 2;  // bytes

  float o[kTiles][kDim / 8][4] = {};
  // For rows lane / 4 and lane / 4 + 8: the maximum that is subtracted from exponents, and the sum of the weights.
  float shift[kTiles][2], total[kTiles][2] = {};
#pragma unroll
  for (int t = 0; t < kTiles; ++t) shift[t][0] = shift[t][1] = -kInfinity;

  // Two barriers in each iteration. From the first to the second V is copied and K is read; after the second the next K
  // is copied and V is read.
  for (int parity = 0;; parity ^= 1) {
    wait_for_copies();
    __syncthreads();  // K has arrived, and all warps have read V
    const int valid = tiles[parity].keys;
    if (valid == 0) break;
    from = kRemainder ? tiles[parity].v : v_head;
#pragma unroll
    for (int piece = 0; piece < copy.kPieces; ++piece) copy.start(piece, v_tile, from, tiles[parity]);
    commit_copies();

    // Always 0, but the compiler cannot know it. With a constant it would keep all of K's addresses in registers
    // through the loop and spill others.
    static_assert(kMostKeys < 4 * kKeys);
    const std::uint32_t unknown_zero = kTiles > 1 ? static_cast<unsigned>(valid) / (4 * kKeys) : 0;
    float s[kTiles][kKeys / 8][4];
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      std::uint32_t a[kTiles][4];
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        load_matrices(a[t], (q_row ^ (d * 32)) + t * kRows16);
      }
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        std::uint32_t b[4];
        load_matrices(b, ((k_row + unknown_zero) ^ (d * 32)) + n * kRows16);
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          if (d == 0) {
            multiply<kElement>(s[t][2 * n], a[t], b[0], b[1]);
            multiply<kElement>(s[t][2 * n + 1], a[t], b[2], b[3]);
          } else {
            multiply_add<kElement>(s[t][2 * n], a[t], b[0], b[1]);
            multiply_add<kElement>(s[t][2 * n + 1], a[t], b[2], b[3]);
          }
        }
      }
    }

    wait_for_copies();
    __syncthreads();  // V has arrived, and all warps have read K and this tile's tokens

    if (valid < kKeys) {  // uniform over the CTA
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
    if constexpr (kRemainder) {
      if (valid > kKeys) weigh_pooled(s, pooled->terms[KeyTile::pooled_tile(valid) % kTileTerms], lane);
    }
    float highest[kTiles][2];
    bool rises = false;
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float own = fmaxf(s[t][0][2 * half], s[t][0][2 * half + 1]);
#pragma unroll
        for (int n = 1; n < kKeys / 8; ++n) own = fmaxf(own, fmaxf(s[t][n][2 * half], s[t][n][2 * half + 1]));
        own = fmaxf(own, __shfl_xor_sync(0xffffffffU, own, 1));
        own = fmaxf(own, __shfl_xor_sync(0xffffffffU, own, 2));
        highest[t][half] = own;
        rises |= (own - shift[t][half]) * scale2 > kSlack;  // the first tile: own + inf, so it rises
      }
    }
    // O is scaled down only if a maximum rose by more than kSlack. After the first tiles that is rare.
    if (__any_sync(0xffffffffU, rises)) {
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float risen = fmaxf(shift[t][half], highest[t][half]);
          const float shrink = exp2_fast((shift[t][half] - risen) * scale2);  // 0 for the first tile
          shift[t][half] = risen;
          total[t][half] *= shrink;
#pragma unroll
          for (int d = 0; d < kDim / 8; ++d) {
            o[t][d][2 * half] *= shrink;
            o[t][d][2 * half + 1] *= shrink;
          }
        }
      }
    }
    std::uint32_t p[kTiles][kKeys / 16][4];  // P, as left operands of mma
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      if (t == kTiles - 1) {  // not earlier: while all of S is live, registers do not suffice for the addresses too
        from = kRemainder ? tiles[parity ^ 1].k : k_head;
#pragma unroll
        for (int piece = 0; piece < copy.kPieces; ++piece) copy.start(piece, k_tile, from, tiles[parity ^ 1]);
        commit_copies();
        // At this point it delays the other warps least.
        if (warp == 0) walk.write_next(map, tiles[parity], pooled);
      }
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float scaled = shift[t][half] * scale2;
        float sum = 0.0F;
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
          const float low = exp2_fast(fmaf(s[t][n][2 * half], scale2, -scaled));
          const float high = exp2_fast(fmaf(s[t][n][2 * half + 1], scale2, -scaled));
          sum += low + high;
          p[t][n / 2][n % 2 * 2 + half] = pack<kElement>(low, high);
        }
        total[t][half] += sum;
      }
    }

#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
#pragma unroll
      for (int d = 0; d < kDim / 16; ++d) {
        std::uint32_t b[4];
        load_matrices_transposed(b, (v_row ^ (d * 32)) + n * kRows16);
#pragma unroll
        for (int t = 0; t < kTiles; ++t) {
          multiply_add<kElement>(o[t][2 * d], p[t][n], b[0], b[1]);
          multiply_add<kElement>(o[t][2 * d + 1], p[t][n], b[2], b[3]);
        }
      }
    }
  }

  // Epilogue: each warp puts its rows of O where its rows of Q were and stores them in 16-byte chunks. The loop ended
  // behind a barrier that followed every copy and every product, so shared memory is free.
  int last_head = static_cast<int>(blockIdx.y);
  not_ahead(last_head);
  float* lse = call.lse + static_cast<std::int64_t>(last_head) * layout.tokens();
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = total[t][half];
      sum += __shfl_xor_sync(0xffffffffU, sum, 1);
      sum += __shfl_xor_sync(0xffffffffU, sum, 2);
      const float inverse = sum == 0.0F ? 0.0F : 1.0F / sum;  // not `sum > 0`, which would hide a NaN
      const int row = warp_row + t * 16 + half * 8 + lane / 4;
#pragma unroll
      for (int d = 0; d < kDim / 8; ++d) {
        const std::uint32_t pair = pack<kElement>(o[t][d][2 * half] * inverse, o[t][d][2 * half + 1] * inverse);
        *reinterpret_cast<std::uint32_t*>(shared + chunk_offset<kDim>(row, d) + (lane & 3) * 4) = pair;
      }
      if ((lane & 3) == 0 && query_start + row < kept_queries.count) {
        lse[kept_queries.token(query_start + row)] =
            sum == 0.0F ? -kInfinity : fmaf(shift[t][half], call.scale, logf(sum));
      }
    }
  }
  __syncwarp();
  std::uint16_t* o_head = static_cast<std::uint16_t*>(call.o) + strides.o.offset(last_head, 0);
  constexpr int kChunks = kDim / 8, kStep = 32 / kChunks;
  for (int i = lane / kChunks; i < kTiles * 16; i += kStep) {
    const int row = warp_row + i, chunk = lane % kChunks;
    if (query_start + row >= kept_queries.count) continue;
    const int token = kept_queries.token(query_start + row);
    *reinterpret_cast<uint4*>(row_of(o_head + chunk * 8, strides.o.token_bytes(), token)) =
        *reinterpret_cast<const uint4*>(shared + chunk_offset<kDim>(row, chunk));
  }
}

template <Element kElement, int kDim, int kTiles, bool kRemainder>
void launch(const Attention& call, const DroppedLists& dropped, cudaStream_t stream) {
  constexpr int kQueries = kWarps * kTiles * 16;
  constexpr int kShared = (kQueries + 2 * kKeys) * kDim * 2;
  const auto kernel = attend_kernel<kElement, kDim, kTiles, kRemainder>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), "cudaFuncSetAttribute");
  const int tiles_a_block = (call.layout.region_tokens() + kQueries - 1) / kQueries;
  kernel<<<dim3(call.layout.blocks() * tiles_a_block, call.layout.heads), kThreads, kShared, stream>>>(
      call, {call.q_strides(), call.k_strides(), call.v_strides(), call.o_strides()},
      BlockMap(call.layout, call.region_order), call.scale * static_cast<float>(kLog2E), dropped);
  check_launch("attend_kernel");
}

template <Element kElement, int kDim, bool kRemainder>
void launch_for_region(const Attention& call, const DroppedLists& dropped, cudaStream_t stream) {
  call.layout.region_tokens() <= 64 ? launch<kElement, kDim, 1, kRemainder>(call, dropped, stream)
                                    : launch<kElement, kDim, 2, kRemainder>(call, dropped, stream);
}

template <Element kElement, int kDim>
void launch_for_remainder(const Attention& call, void* workspace, cudaStream_t stream) {
  if (!call.has_remainder()) return launch_for_region<kElement, kDim, false>(call, {}, stream);
  launch_for_region<kElement, kDim, true>(call, write_dropped_lists(call, workspace, stream), stream);
}

template <Element kElement>
void launch_for_dim(const Attention& call, void* workspace, cudaStream_t stream) {
  call.layout.head_dim == 64 ? launch_for_remainder<kElement, 64>(call, workspace, stream)
                             : launch_for_remainder<kElement, 128>(call, workspace, stream);
}

std::string unsupported(const Attention& call, int capability) {
  if (capability < 80)
    return "wants compute capability 8.0 or newer, found " + std::to_string(capability / 10.0).substr(0, 3);
  const int dim = call.layout.head_dim;
  return dim == 64 || dim == 128 ? "" : "wants head_dim 64 or 128, found " + std::to_string(dim);
}

void launch_mma(const Attention& call, const Resources& resources, cudaStream_t stream) {
  require_valid(call);
  // Checks head_dim alone. A GPU older than sm_80 needs no check here: there the launch itself fails.
  constexpr int kOldest = 80;
  if (const std::string why = unsupported(call, kOldest); !why.empty()) {
    throw std::invalid_argument("attend_mma " + why);
  }
  call.element == Element::bfloat16 ? launch_for_dim<Element::bfloat16>(call, resources.workspace, stream)
                                    : launch_for_dim<Element::float16>(call, resources.workspace, stream);
}

}  // namespace

AttentionKernel mma_kernel() {
  return {"mma", "fused, mma.sync and cp.async: sm_80 on, head_dim 64 and 128", unsupported, dropped_lists_workspace,
          launch_mma};
}

}  // namespace draft::gpu
