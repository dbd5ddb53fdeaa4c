// Idea:     all masks of a nested family in one pass. Each block row goes through its key blocks in the order of their
//           level, the first mask that keeps them, text first, with one online softmax. At the end of each level the
//           output of that mask is complete, and its distance from dense attention is recorded. Blocks that no mask
//           keeps come last and add only their mass. Dense attention is the same pass with one level.
// Map:      one CTA of 4 warps has 64 queries of one block row; a warp has 16 of them and all keys of a tile of 64,
//           which holds keys of several blocks if blocks are small. The next K is copied during the products, V during
//           Q K^T; a second CTA on the multiprocessor hides what is left.
// Needs:    sm_80 on; head_dim 64 or 128; bf16 or fp16; q, k, v in token order, aligned to 16 bytes; any region
//           size; lse and dense O of the same tensors.
// Costs:    2 * video * tokens * head_dim FLOPs a head, and 4 more for each query, channel and key that the last mask
//           keeps (P goes through the tensor cores in two halves); a LevelRow of 40 bytes for each token and level.
// Numerics: S in fp32. Exponentials to base 2; the running maximum is a whole number, so that rescaling is exact. The
//           maximum is over the keys so far, so that a mask which keeps almost no mass is still a softmax. P = high +
//           low in the element type: 16 bits for bf16, 22 for fp16 (weights times 2^15, because of its narrow range).
//           P V of a tile in the tensor cores, sums over tiles compensated (Kahan); sums of P over tiles in fp64. Same
//           input, same bits.

#include "kernels/core/cuda_check.hpp"
#include "kernels/sweep/mask_rows.hpp"
#include "kernels/sweep/sweeps.hpp"
#include "kernels/sweep/tiles.cuh"

namespace draft::gpu {
namespace {

/// Arguments of mask_kernel. Its dense variant writes `dense` and ignores what follows it and `lse`.
struct MaskCall {
  SweepCall sweep;
  const double* lse = nullptr;             // [heads, video]
  float* dense = nullptr;                  // [heads, video, head_dim]
  const std::uint16_t* columns = nullptr;  // [heads, regions, regions], by level
  const std::int32_t* ends = nullptr;      // [heads, regions, masks + 1]
  int masks = 0;
  LevelRow* rows = nullptr;  // [heads, masks + 1, video]
  float* output = nullptr;   // [heads, masks, video, head_dim]; may be null
};

/// A row's sums of weights and of their squares over the levels that have ended, relative to 2^shift.
struct KeptSums {
  double mass, square;
  float shift;
};

template <Element kElement>
__device__ float2 unpack(std::uint32_t pair) {
  if constexpr (kElement == Element::bfloat16) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000U)};
  } else {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
  }
}

/// The current level's sums of 2^(y - shift), y = scale2 S, and of their squares: each thread's part, for row lane / 4
/// and row lane / 4 + 8. In shared memory, because registers do not suffice.
struct LevelSums {
  double mass[2][kSweepThreads], square[2][kSweepThreads];
};

/// Kahan summation: adds `term` to `sum` and returns the new error, `lost`. sum - lost is the sum of all terms to about
/// one rounding; eight bits of the error are enough.
__device__ inline float add_compensated(float& sum, float lost, float term) {
  const float corrected = __fsub_rn(term, lost), risen = __fadd_rn(sum, corrected);
  const float now_lost = __fsub_rn(__fsub_rn(risen, sum), corrected);
  sum = risen;
  return now_lost;
}
/// Two floats truncated to bfloat16 and packed; unpack<Element::bfloat16> is the inverse.
__device__ inline std::uint32_t cut(float low, float high) {
  return __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
}

/// The state of a warp's 16 rows from tile to tile; index 0 is row lane / 4, index 1 row lane / 4 + 8.
template <int kDim>
struct WarpRows {
  float o[kDim / 8][4] = {};             // sum of 2^(y - shift) V
  std::uint32_t lost[kDim / 8][2] = {};  // Kahan errors of that sum, two packed in each
  float shift[2] = {-kInfinity, -kInfinity};

  __device__ void rescale(const float (&raised)[2], LevelSums& sums) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float shrink = power_of_two(shift[half] - raised[half]);  // 0 for the first tile
      sums.mass[half][threadIdx.x] *= shrink;
      sums.square[half][threadIdx.x] *= static_cast<double>(shrink) * shrink;
      shift[half] = raised[half];
#pragma unroll
      for (int d = 0; d < kDim / 8; ++d) {
        o[d][2 * half] *= shrink;
        o[d][2 * half + 1] *= shrink;
        const float2 wide = unpack<Element::bfloat16>(lost[d][half]);
        lost[d][half] = cut(wide.x * shrink, wide.y * shrink);
      }
    }
  }
};

/// Ends a level: adds its sums to `kept`, compares the output with the dense one, and writes the LevelRow.
template <int kDim>
__device__ __forceinline__ void end_level(const MaskCall& call, int head, int level, WarpRows<kDim>& warp,
                                          LevelSums& sums, KeptSums (&kept)[kTile], const int (&queries)[kTile]) {
  const Layout& layout = call.sweep.layout;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = warp_id() * kWarpRows + half * 8 + lane_id() / 4, token = queries[row];
    const double mass = sum_of_quad(sums.mass[half][threadIdx.x]), square = sum_of_quad(sums.square[half][threadIdx.x]);
    sums.mass[half][threadIdx.x] = sums.square[half][threadIdx.x] = 0.0;
    const std::int64_t place = static_cast<std::int64_t>(head) * layout.video() + max(token, 0);
    const double dense_share = exp(warp.shift[half] * kLn2 - call.lse[place]);  // P = 2^(y - shift) dense_share
    LevelRow out{mass * dense_share, square * dense_share * dense_share, 0.0, 0.0F, 0.0F, 0.0F, 0.0F};
    if (level < call.masks) {
      const double carry = power_of_two(static_cast<double>(kept[row].shift) - static_cast<double>(warp.shift[half]));
      const double kept_mass = kept[row].mass * carry + mass;
      const double kept_square = kept[row].square * carry * carry + square;
      __syncwarp();  // all lanes of the quad have read kept[row]
      if ((lane_id() & 3) == 0) kept[row] = {kept_mass, kept_square, warp.shift[half]};
      __syncwarp();
      const double inverse = kept_mass == 0.0 ? 0.0 : 1.0 / kept_mass;  // not `> 0`, which would hide a NaN
      out.sharpness = kept_square * inverse * inverse;
      const auto share = static_cast<float>(inverse);
      const float2* dense = reinterpret_cast<const float2*>(call.dense + place * kDim) + (lane_id() & 3);
      float2* own = nullptr;
      if (call.output != nullptr && token >= 0) {
        const std::int64_t line = static_cast<std::int64_t>(head) * call.masks + level;
        own = reinterpret_cast<float2*>(call.output + (line * layout.video() + token) * kDim) + (lane_id() & 3);
      }
#pragma unroll
      for (int d = 0; d < kDim / 8; ++d) {
        const float2 full = dense[d * 4];
        const float first = warp.o[d][2 * half] * share, second = warp.o[d][2 * half + 1] * share;
        if (own != nullptr) own[d * 4] = {first, second};
        out.error2 = fmaf(full.x - first, full.x - first, fmaf(full.y - second, full.y - second, out.error2));
        out.error1 += fabsf(full.x - first) + fabsf(full.y - second);
        out.dot = fmaf(full.x, first, fmaf(full.y, second, out.dot));
        out.own2 = fmaf(first, first, fmaf(second, second, out.own2));
      }
      out.error2 = sum_of_quad(out.error2);
      out.error1 = sum_of_quad(out.error1);
      out.dot = sum_of_quad(out.dot);
      out.own2 = sum_of_quad(out.own2);
    }
    if ((lane_id() & 3) == 0 && token >= 0) {
      const std::int64_t line = static_cast<std::int64_t>(head) * (call.masks + 1) + level;
      call.rows[line * layout.video() + token] = out;
    }
  }
}

template <int kDim>
__device__ __forceinline__ void write_dense(const MaskCall& call, int head, const WarpRows<kDim>& warp,
                                            const LevelSums& sums, const int (&queries)[kTile]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int token = queries[warp_id() * kWarpRows + half * 8 + lane_id() / 4];
    const auto share = static_cast<float>(1.0 / sum_of_quad(sums.mass[half][threadIdx.x]));  // every row has a key
    if (token < 0) continue;
    const std::int64_t place = static_cast<std::int64_t>(head) * call.sweep.layout.video() + token;
    float2* out = reinterpret_cast<float2*>(call.dense + place * kDim) + (lane_id() & 3);
#pragma unroll
    for (int d = 0; d < kDim / 8; ++d) out[d * 4] = {warp.o[d][2 * half] * share, warp.o[d][2 * half + 1] * share};
  }
}

template <Element kElement, int kDim, bool kDense>
__global__ void __launch_bounds__(kSweepThreads, 2)
    mask_kernel(const __grid_constant__ MaskCall call, const __grid_constant__ BlockMap map) {
  constexpr int kBytes = kTile * kDim * 2;
  // Lowers every shift, so that fp16 weights reach up to 2^15: fp16 has no numbers below 2^-24.
  constexpr float kRaise = kElement == Element::float16 ? 15.0F : 0.0F;
  extern __shared__ __align__(256) unsigned char shared[];
  __shared__ int queries[kTile];
  __shared__ SweepTile tiles[kAhead];
  __shared__ SweepWalk<true> walk;
  __shared__ LevelSums sums;
  __shared__ KeptSums kept[kDense ? 1 : kTile];
  const std::uint32_t q_tile = shared_address(shared), k_tiles = q_tile + kBytes, v_tile = q_tile + 3 * kBytes;

  const Layout& layout = call.sweep.layout;
  const int regions = layout.regions(), tiles_a_row = tiles_a_region(layout), head = static_cast<int>(blockIdx.y);
  const int tile = static_cast<int>(blockIdx.x), region = tile / tiles_a_row, query_tile = tile % tiles_a_row;
  const BlockRows rows = map.rows(region);
  if (query_tile * kTile >= rows.count) return;

  const std::int64_t head_offset = layout.offset(head, 0);
  const std::uint16_t* k_head = static_cast<const std::uint16_t*>(call.sweep.k) + head_offset;
  const std::uint16_t* v_head = static_cast<const std::uint16_t*>(call.sweep.v) + head_offset;
  const int levels = kDense ? 1 : call.masks + 1;
  list_queries(rows, query_tile, queries);
  if (warp_id() == 0) {
    const std::int64_t line = static_cast<std::int64_t>(head) * regions + region;
    walk.begin(map, true, kDense ? nullptr : call.columns + line * regions,
               kDense ? nullptr : call.ends + line * levels, levels);
    walk.write_next(map, tiles[0]);
    walk.write_next(map, tiles[1]);
  }
  for (int half = 0; half < 2; ++half) sums.mass[half][threadIdx.x] = sums.square[half][threadIdx.x] = 0.0;
  if constexpr (!kDense) {
    if (threadIdx.x < kTile) kept[threadIdx.x] = {0.0, 0.0, -kInfinity};
  }
  __syncthreads();
  copy_rows<kDim>(q_tile, static_cast<const std::uint16_t*>(call.sweep.q) + head_offset, queries);
  copy_rows<kDim>(k_tiles, k_head, tiles[0].tokens);
  commit_copies();

  const float scale2 = static_cast<float>(call.sweep.scale * kLog2E);
  WarpRows<kDim> warp;
  int level = 0;
  for (int slot = 0, parity = 0;; parity ^= 1) {
    const int next = slot == kAhead - 1 ? 0 : slot + 1, after = next == kAhead - 1 ? 0 : next + 1;
    wait_for_copies();
    __syncthreads();  // this K has arrived, and all warps have read the one before, V and their list of tokens
    const int keys = tiles[slot].keys, tile_level = tiles[slot].group;
    const bool is_kept = kDense || tile_level < call.masks;  // uniform over the CTA
    if (keys > 0) {
      if (is_kept) copy_rows<kDim>(v_tile, v_head, tiles[slot].tokens);
      commit_copies();
      copy_rows<kDim>(k_tiles + (parity ^ 1) * kBytes, k_head, tiles[next].tokens);
      commit_copies();
      if (warp_id() == 0) walk.write_next(map, tiles[after]);
    }
    if constexpr (!kDense) {
      for (; level < tile_level; ++level) end_level<kDim>(call, head, level, warp, sums, kept, queries);
    }
    if (keys == 0) break;
    slot = next;

    float s[kTile / 8][4];
    multiply_logits<kElement, kDim>(s, q_tile, k_tiles + parity * kBytes);
    leave_out_padding(s, keys);
    float raised[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      raised[half] = fmaxf(warp.shift[half], ceilf(highest_in_row(s, half) * scale2) - kRaise);
    }
    // A maximum rises rarely after the first tiles.
    if (__any_sync(~0U, raised[0] > warp.shift[0] || raised[1] > warp.shift[1])) warp.rescale(raised, sums);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = 0.0F, square = 0.0F;
#pragma unroll
      for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          const float weight = exp2_fast(fmaf(s[n][i], scale2, -raised[half]));
          s[n][i] = weight;
          sum += weight;
          square = fmaf(weight, weight, square);
        }
      }
      sums.mass[half][threadIdx.x] += sum;
      if (!kDense) sums.square[half][threadIdx.x] += square;
    }
    if (!is_kept) continue;

    std::uint32_t high[kTile / 16][4], low[kTile / 16][4];  // P, as left operands of mma
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t pair = pack<kElement>(s[n][2 * half], s[n][2 * half + 1]);
        const float2 rounded = unpack<kElement>(pair);
        high[n / 2][n % 2 * 2 + half] = pair;
        low[n / 2][n % 2 * 2 + half] = pack<kElement>(s[n][2 * half] - rounded.x, s[n][2 * half + 1] - rounded.y);
      }
    }
    wait_for_older_copies();
    __syncthreads();  // V has arrived
    int lane = lane_id();
    not_ahead(lane);
    const std::uint32_t v_row = v_tile + chunk_offset<kDim>(lane & 15, lane >> 4);
#pragma unroll
    for (int d = 0; d < kDim / 16; d += 2) {
      float part[4][4] = {};
#pragma unroll
      for (int n = 0; n < kTile / 16; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          std::uint32_t b[4];
          load_matrices_transposed(b, (v_row ^ ((d + j) * 32)) + n * 16 * kDim * 2);
          multiply_add<kElement>(part[2 * j], high[n], b[0], b[1]);
          multiply_add<kElement>(part[2 * j + 1], high[n], b[2], b[3]);
          multiply_add<kElement>(part[2 * j], low[n], b[0], b[1]);
          multiply_add<kElement>(part[2 * j + 1], low[n], b[2], b[3]);
        }
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float(&sum)[4] = warp.o[2 * d + j];
          const float2 lost = unpack<Element::bfloat16>(warp.lost[2 * d + j][half]);
          const float first = add_compensated(sum[2 * half], lost.x, part[j][2 * half]);
          warp.lost[2 * d + j][half] = cut(first, add_compensated(sum[2 * half + 1], lost.y, part[j][2 * half + 1]));
        }
      }
    }
  }
  if constexpr (kDense) write_dense<kDim>(call, head, warp, sums, queries);
}

template <bool kDense>
void launch(const MaskCall& call, cudaStream_t stream) {
  for_element_and_dim(call.sweep, [&]<Element kElement, int kDim>() {
    constexpr int kShared = 4 * kTile * kDim * 2;
    const auto kernel = mask_kernel<kElement, kDim, kDense>;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), "cudaFuncSetAttribute");
    const Layout& layout = call.sweep.layout;
    const dim3 grid(static_cast<unsigned>(layout.regions() * tiles_a_region(layout)), layout.heads);
    kernel<<<grid, kSweepThreads, kShared, stream>>>(call, BlockMap(layout, false));
    check_launch("mask_kernel");
  });
}

/// The parts of the scratch, each aligned to 256 bytes.
struct Scratch {
  std::size_t rows, columns, ends, bytes;
  Scratch(const Layout& layout, int masks) {
    const auto aligned = [](std::size_t size) { return (size + 255) / 256 * 256; };
    const auto heads = static_cast<std::size_t>(layout.heads), regions = static_cast<std::size_t>(layout.regions());
    const auto levels = static_cast<std::size_t>(masks) + 1;
    rows = 0;
    columns = aligned(heads * levels * static_cast<std::size_t>(layout.video()) * sizeof(LevelRow));
    ends = columns + aligned(heads * regions * regions * sizeof(std::uint16_t));
    bytes = ends + aligned(heads * regions * levels * sizeof(std::int32_t));
  }
};

}  // namespace

void dense_output(const SweepCall& call, float* dense, cudaStream_t stream) {
  require_valid(call, true);
  require_aligned("dense output: dense", dense);
  launch<true>({.sweep = call, .dense = dense}, stream);
}

std::size_t mask_sweep_scratch(const Layout& layout, int masks) {
  require_valid(layout);
  return Scratch(layout, masks).bytes;
}

void sweep_masks(const SweepCall& call, const double* lse, const float* dense, const NestedMasks& family, void* scratch,
                 const MaskEffects& effects, cudaStream_t stream) {
  require_valid(call, true);
  require_valid(family);
  require_aligned("mask sweep: lse", lse);
  require_aligned("mask sweep: dense", dense);
  require_aligned("mask sweep: scratch", scratch);
  const Scratch parts(call.layout, family.masks);
  char* const base = static_cast<char*>(scratch);
  auto* rows = reinterpret_cast<LevelRow*>(base + parts.rows);
  auto* columns = reinterpret_cast<std::uint16_t*>(base + parts.columns);
  auto* ends = reinterpret_cast<std::int32_t*>(base + parts.ends);
  sort_by_level(call.layout, family, columns, ends, stream);
  launch<false>({call, lse, const_cast<float*>(dense), columns, ends, family.masks, rows, effects.output}, stream);
  finish_masks(call.layout, family.masks, rows, effects, stream);
}

}  // namespace draft::gpu
