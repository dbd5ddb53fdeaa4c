// Idea:     q, k and v as 8-bit operands (operands.hpp), in one pass over each.
// Map:      sample_kernel: one CTA a head takes the mean of k and the rms of v over about 2,048 tokens.
//           quantise_kernel: one CTA of 512 threads for each tile of q, of k and of v. A thread has 8 channels of 4
//           tokens, those of four places of a V row, so that V needs one exchange through shared memory, Q and K none.
//           repeat_kernel: writes V again where a number was too large for the sample's scale; mostly it only looks.
// Needs:    head_dim 128; regions of at most 128 tokens; bf16 or fp16; 16-byte aligned pointers, any strides
// (strided.hpp);
//           sm_89 on.
// Costs:    reads 6 bytes and writes 3 for each token and channel; the sample 2% of that at 126,976 tokens.
//           The draft's means of q and k come out of the same pass.
// Numerics: INT8 to nearest, ties to even. E4M3 to nearest. A NaN or infinity in a row of q makes the row's factor NaN,
//           in k the block's step, in v E4M3's NaN: what they touch becomes NaN. Same input, same bits.

#include <algorithm>

#include "kernels/attend/remainder.hpp"
#include "kernels/attend/wgmma/tile_box.hpp"
#include "kernels/attend/wgmma_8bit/operands.hpp"
#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/element.cuh"
#include "kernels/core/logarithms.hpp"
#include "kernels/core/reduce.cuh"
#include "kernels/ptx/mma.cuh"

namespace draft::gpu {
namespace {

constexpr int kThreads = 512;
constexpr int kVectors = kTileSide / kVector;  // 16-byte vectors of a token's row, and threads that share a token
constexpr int kOwn = kTileSide / (kThreads / kVectors);  // tokens of a thread: 4, as many as a word has keys
constexpr int kSampleThreads = 1024;
constexpr float kSteps = 127.0F;  // INT8's largest number
constexpr float kLargestFinite = 0x1.fffffep127F;

/// Rows of a tile in a tensor of rows of 128 elements.
struct TileRows {
  const uint4* first;   // row 0
  std::uint32_t bytes;  // from a row of the tensor to the next
  int count;            // rows that there are
  int columns, pitch;   // row r is r / columns * pitch + r % columns rows behind the first
  __device__ uint4 load(int row, int vector) const {
    if (row >= count) return make_uint4(0, 0, 0, 0);
    return __ldcs(row_of(first + vector, bytes, row / columns * pitch + row % columns));
  }
};

/// q, k or v: [heads, tokens, 128].
struct TokenRows {
  const void* rows;
  Strides strides;
  __device__ const uint4* row(int head, int token) const {
    return static_cast<const uint4*>(rows) + strides.offset(head, token) / kVector;
  }
};

struct QuantiseCall {
  Layout layout;
  TileGrid grid;
  float scale;
  TokenRows q, k, v;
  const void *pooled_k, *pooled_v;
  EightBitOperands to;
  RegionMeans means;

  /// Tile `tile` of a head: a block, or behind them pooled rows.
  __device__ TileRows rows(const TokenRows& tensor, const void* pooled, int head, int tile) const {
    if (tile >= layout.blocks()) {
      const int first = (tile - layout.blocks()) * kPooledTile;
      const std::int64_t row = static_cast<std::int64_t>(head) * layout.regions() + first;
      return {static_cast<const uint4*>(pooled) + row * kVectors, kVectors * sizeof(uint4),
              min(kPooledTile, layout.regions() - first), kPooledTile, kPooledTile};
    }
    const TileBox box = grid.box(tile);
    return {tensor.row(head, box.first), tensor.strides.token_bytes(), box.rows * box.columns, box.columns,
            layout.width};
  }
};

/// This thread's share of a tile: 8 channels of the 4 tokens at places 4 group to 4 group + 3 of V's rows.
struct Share {
  int vector = static_cast<int>(threadIdx.x) % kVectors, group = static_cast<int>(threadIdx.x) / kVectors;
  __device__ int row(int i) const { return key_at_place(kOwn * group + i); }
  __device__ void load(uint4 (&packed)[kOwn], const TileRows& rows) const {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) packed[i] = rows.load(row(i), vector);
  }
};

/// Sums or maxima over the 16 threads that share a token.
template <typename Join>
__device__ float over_token(float x, Join join) {
#pragma unroll
  for (int step = 1; step < kVectors; step *= 2) x = join(x, __shfl_xor_sync(0xffffffffU, x, step));
  return x;
}

/// The mean over a region's `count` rows to `to`, unless that is null. `parts` is kThreads / kVectors rows of shared
/// memory. Sums in a fixed order.
template <Element kElement>
__device__ void write_mean(const uint4 (&packed)[kOwn], float* parts, int count, float* to) {
  if (to == nullptr) return;
  const Share share;
  float sum[kVector] = {};
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    float wide[kVector];
    widen<kElement>(packed[i], wide);
#pragma unroll
    for (int c = 0; c < kVector; ++c) sum[c] += wide[c];
  }
#pragma unroll
  for (int c = 0; c < kVector; ++c) parts[share.group * kTileSide + share.vector * kVector + c] = sum[c];
  __syncthreads();
  const int channel = static_cast<int>(threadIdx.x);
  if (channel >= kTileSide) return;
  float total = 0.0F;
#pragma unroll 4
  for (int group = 0; group < kThreads / kVectors; ++group) total += parts[group * kTileSide + channel];
  to[channel] = total / static_cast<float>(count);
}

/// Eight numbers x / step as INT8. The bits of x + kIntegerBias end with x rounded to an integer.
__device__ uint2 to_int8(const float (&x)[kVector], float inverse) {
  std::uint32_t bits[kVector];
#pragma unroll
  for (int c = 0; c < kVector; ++c) bits[c] = __float_as_uint(fmaf(x[c], inverse, kIntegerBias));
  const auto pack4 = [&](int c) {
    return __byte_perm(__byte_perm(bits[c], bits[c + 1], 0x0040), __byte_perm(bits[c + 2], bits[c + 3], 0x0040),
                       0x5410);
  };
  return make_uint2(pack4(0), pack4(4));
}

/// The step for a largest number. All zeros: steps of 1. NaN and infinity: NaN.
__device__ float step_for(float largest) {
  if (largest == 0.0F) return 1.0F;
  return largest <= kLargestFinite ? fmaxf(largest, 0x1p-110F) * (1.0F / kSteps) : __int_as_float(0x7fffffff);
}

template <Element kElement>
__device__ void quantise_q(const QuantiseCall& call, int head, int block, float* memory) {
  const TileRows rows = call.rows(call.q, nullptr, head, block);
  const Share share;
  uint4 packed[kOwn];
  share.load(packed, rows);
  float mean[kVector];
  const float* mean_k = call.to.heads[head].mean_k + share.vector * kVector;
#pragma unroll
  for (int c = 0; c < kVector; ++c) mean[c] = mean_k[c];
  std::uint8_t* const tile = call.to.q + (static_cast<std::int64_t>(head) * call.layout.blocks() + block) * kQueryBytes;
  auto* const terms = reinterpret_cast<RowTerms*>(tile + kOperandBytes);
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    float wide[kVector], most = 0.0F, along_mean = 0.0F;
    widen<kElement>(packed[i], wide);
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      most = Larger{}(most, fabsf(wide[c]));
      along_mean = fmaf(wide[c], mean[c], along_mean);
    }
    most = over_token(most, Larger{});
    along_mean = over_token(along_mean, Plus{});
    const float step = step_for(most);
    const int row = share.row(i);
    *reinterpret_cast<uint2*>(tile + swizzled_offset(row, share.vector / 2) + share.vector % 2 * 8) =
        to_int8(wide, __fdividef(1.0F, step));
    if (share.vector == 0) {
      terms->factor[row] = call.scale * static_cast<float>(kLog2E) * step;
      terms->lse_term[row] = call.scale * along_mean;
    }
  }
  write_mean<kElement>(packed, memory, rows.count, call.means.of(call.means.q, call.layout, head, block));
}

template <Element kElement>
__device__ void quantise_k(const QuantiseCall& call, int head, int number, float* memory) {
  __shared__ float parts[kThreads / 32];
  const TileRows rows = call.rows(call.k, call.pooled_k, head, number);
  const Share share;
  uint4 packed[kOwn];
  share.load(packed, rows);
  float mean[kVector], most = 0.0F;
  const float* mean_k = call.to.heads[head].mean_k + share.vector * kVector;
#pragma unroll
  for (int c = 0; c < kVector; ++c) mean[c] = mean_k[c];
  const auto less_mean = [&](int i, float(&wide)[kVector]) {
    widen<kElement>(packed[i], wide);
    const bool is_key = share.row(i) < rows.count;
#pragma unroll
    for (int c = 0; c < kVector; ++c) wide[c] = is_key ? wide[c] - mean[c] : 0.0F;
  };
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    float wide[kVector];
    less_mean(i, wide);
#pragma unroll
    for (int c = 0; c < kVector; ++c) most = Larger{}(most, fabsf(wide[c]));
  }
  most = reduce_block(most, Larger{}, parts);
  // Widened again: kept from the maximum on, the numbers would not fit the registers.
#pragma unroll
  for (uint4& vector : packed) {
    not_ahead(vector.x);
    not_ahead(vector.y);
    not_ahead(vector.z);
    not_ahead(vector.w);
  }
  const float step = step_for(most), inverse = __fdividef(1.0F, step);
  const std::int64_t at = static_cast<std::int64_t>(head) * call.to.key_tiles + number;
  std::uint8_t* const tile = call.to.k + at * kOperandBytes;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    float wide[kVector];
    less_mean(i, wide);
    *reinterpret_cast<uint2*>(tile + swizzled_offset(share.row(i), share.vector / 2) + share.vector % 2 * 8) =
        to_int8(wide, inverse);
  }
  if (threadIdx.x == 0) call.to.k_steps[at] = step;
  write_mean<kElement>(packed, memory, rows.count, call.means.of(call.means.k, call.layout, head, number));
}

/// Writes a tile of V times `scale`; if `infinities`, with those among this thread's numbers as NaN, which the
/// conversion would make 448. `laid_out` is kOperandBytes of shared memory.
template <Element kElement>
__device__ void write_v(const QuantiseCall& call, int head, int number, float scale, const uint4 (&packed)[kOwn],
                        bool infinities, std::uint32_t* laid_out) {
  const Share share;
  // Words are permuted by the vector, so that the 32 lanes of a store hit each bank twice at most.
  float wide[kOwn][kVector];
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    widen<kElement>(packed[i], wide[i]);
    if (infinities) {
#pragma unroll
      for (float& x : wide[i]) x = fabsf(x) <= kLargestFinite ? x : __int_as_float(0x7fffffff);
    }
  }
#pragma unroll
  for (int c = 0; c < kVector; ++c) {
    laid_out[(share.vector * kVector + c) * 32 + (share.group ^ (share.vector % 8 * 4))] =
        pack_e4m3(wide[0][c] * scale, wide[1][c] * scale, wide[2][c] * scale, wide[3][c] * scale);
  }
  __syncthreads();
  std::uint8_t* const tile = call.to.v + (static_cast<std::int64_t>(head) * call.to.key_tiles + number) * kOperandBytes;
#pragma unroll
  for (int i = 0; i < kOperandBytes / 16 / kThreads; ++i) {
    const int chunk = static_cast<int>(threadIdx.x) + i * kThreads, channel = chunk / 8;
    const uint4 keys =
        *reinterpret_cast<const uint4*>(laid_out + channel * 32 + (chunk % 8 * 4 ^ channel / kVector % 8 * 4));
    *reinterpret_cast<uint4*>(tile + swizzled_offset(channel, chunk % 8)) = keys;
  }
}

template <Element kElement>
__device__ void quantise_v(const QuantiseCall& call, int head, int number, std::uint32_t* laid_out) {
  const TileRows rows = call.rows(call.v, call.pooled_v, head, number);
  const Share share;
  uint4 packed[kOwn];
  share.load(packed, rows);
  HeadScales& scales = call.to.heads[head];
  float most = 0.0F;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    float wide[kVector];
    widen<kElement>(packed[i], wide);
#pragma unroll
    for (int c = 0; c < kVector; ++c) most = Larger{}(most, fabsf(wide[c]));
  }
  // The scale follows finite numbers.
  const bool odd = !(most <= kLargestFinite);
  if (odd) {
    most = 0.0F;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      float wide[kVector];
      widen<kElement>(packed[i], wide);
#pragma unroll
      for (int c = 0; c < kVector; ++c) most = fabsf(wide[c]) <= kLargestFinite ? fmaxf(most, fabsf(wide[c])) : most;
    }
  }
  most = reduce_warp(most, Larger{});
  // A warp that would not raise the maximum leaves it alone: otherwise thousands of warps would queue for one address.
  if (threadIdx.x % 32 == 0 && __float_as_uint(most) > *reinterpret_cast<volatile std::uint32_t*>(&scales.largest_bits))
    atomicMax(&scales.largest_bits, __float_as_uint(most));
  write_v<kElement>(call, head, number, scales.sampled_scale, packed, odd, laid_out);
}

enum class Operand { q, k, v };

template <Element kElement, Operand kOperand>
__global__ void __launch_bounds__(kThreads, 2) quantise_kernel(QuantiseCall call) {
  __shared__ __align__(16) std::uint32_t memory[kOperandBytes / 4];
  const int tile = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  if constexpr (kOperand == Operand::q) quantise_q<kElement>(call, head, tile, reinterpret_cast<float*>(memory));
  if constexpr (kOperand == Operand::k) quantise_k<kElement>(call, head, tile, reinterpret_cast<float*>(memory));
  if constexpr (kOperand == Operand::v) quantise_v<kElement>(call, head, tile, memory);
}

/// V again with the scale of its largest number, in heads where the sample's was too large.
template <Element kElement>
__global__ void __launch_bounds__(kThreads) repeat_kernel(QuantiseCall call) {
  __shared__ __align__(16) std::uint32_t laid_out[kOperandBytes / 4];
  const int head = static_cast<int>(blockIdx.y);
  const HeadScales& scales = call.to.heads[head];
  const float scale = scales.v_scale();
  if (scale == scales.sampled_scale) return;
  for (int tile = static_cast<int>(blockIdx.x); tile < call.to.key_tiles; tile += static_cast<int>(gridDim.x)) {
    const TileRows rows = call.rows(call.v, call.pooled_v, head, tile);
    uint4 packed[kOwn];
    Share{}.load(packed, rows);
    __syncthreads();  // the tile before has left shared memory
    write_v<kElement>(call, head, tile, scale, packed, true, laid_out);
  }
}

/// Every head's mean of k and rms of v, over every `stride`-th token.
template <Element kElement>
__global__ void __launch_bounds__(kSampleThreads) sample_kernel(QuantiseCall call, int stride) {
  constexpr int kTokens = kSampleThreads / kVectors, kLoads = 8;
  __shared__ float sums[kTokens][kTileSide];
  __shared__ float squares[kSampleThreads / 32];
  const int head = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int vector = thread % kVectors, own = thread / kVectors;
  const int count = (call.layout.tokens() + stride - 1) / stride;
  const uint4 *k = call.k.row(head, 0) + vector, *v = call.v.row(head, 0) + vector;
  float sum[kVector] = {}, square = 0.0F;
  for (int first = own; first < count; first += kTokens * kLoads) {
    uint4 packed_k[kLoads] = {}, packed_v[kLoads] = {};
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (first + i * kTokens >= count) continue;
      const int token = (first + i * kTokens) * stride;
      packed_k[i] = *row_of(k, call.k.strides.token_bytes(), token);
      packed_v[i] = *row_of(v, call.v.strides.token_bytes(), token);
    }
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      float wide[kVector];
      widen<kElement>(packed_k[i], wide);
#pragma unroll
      for (int c = 0; c < kVector; ++c) sum[c] += fabsf(wide[c]) <= kLargestFinite ? wide[c] : 0.0F;
      widen<kElement>(packed_v[i], wide);
#pragma unroll
      for (int c = 0; c < kVector; ++c) square += fabsf(wide[c]) <= kLargestFinite ? wide[c] * wide[c] : 0.0F;
    }
  }
#pragma unroll
  for (int c = 0; c < kVector; ++c) sums[own][vector * kVector + c] = sum[c];
  square = reduce_warp(square, Plus{});
  if (thread % 32 == 0) squares[thread / 32] = square;
  __syncthreads();
  HeadScales& scales = call.to.heads[head];
  if (thread < kTileSide) {
    float total = 0.0F;
    for (int i = 0; i < kTokens; ++i) total += sums[i][thread];
    scales.mean_k[thread] = total / static_cast<float>(count);
  } else if (thread == kTileSide) {
    float total = 0.0F;
    for (float part : squares) total += part;
    const float rms = sqrtf(total / (static_cast<float>(count) * kTileSide));
    scales.sampled_scale = rms == 0.0F ? __int_as_float(0x7fffffff) : HeadScales::scale_for(rms, 0);
    scales.largest_bits = 0;
  }
}

template <Element kElement>
void launch(const QuantiseCall& call, cudaStream_t stream) {
  const Layout& layout = call.layout;
  sample_kernel<kElement>
      <<<layout.heads, kSampleThreads, 0, stream>>>(call, std::max(layout.tokens() / kSampledTokens, 1));
  check_launch("sample_kernel");
  const dim3 keys(call.to.key_tiles, layout.heads);
  quantise_kernel<kElement, Operand::q><<<dim3(layout.blocks(), layout.heads), kThreads, 0, stream>>>(call);
  check_launch("quantise_kernel of q");
  quantise_kernel<kElement, Operand::k><<<keys, kThreads, 0, stream>>>(call);
  check_launch("quantise_kernel of k");
  quantise_kernel<kElement, Operand::v><<<keys, kThreads, 0, stream>>>(call);
  check_launch("quantise_kernel of v");
  repeat_kernel<kElement><<<dim3(std::min(call.to.key_tiles, 64), layout.heads), kThreads, 0, stream>>>(call);
  check_launch("repeat_kernel");
}

std::size_t rounded_up(std::size_t bytes) { return (bytes + 127) / 128 * 128; }

int key_tiles(const Attention& call) {
  return call.layout.blocks() + (call.has_remainder() ? pooled_tiles(call.layout) : 0);
}

}  // namespace

std::size_t eight_bit_bytes(const Attention& call) {
  const auto heads = static_cast<std::size_t>(call.layout.heads);
  const auto blocks = static_cast<std::size_t>(call.layout.blocks()), tiles = static_cast<std::size_t>(key_tiles(call));
  return heads * (blocks * kQueryBytes + 2 * tiles * kOperandBytes) + rounded_up(heads * tiles * sizeof(float)) +
         rounded_up(heads * sizeof(HeadScales));
}

EightBitOperands place_operands(const Attention& call, void* memory) {
  const auto heads = static_cast<std::size_t>(call.layout.heads);
  const auto blocks = static_cast<std::size_t>(call.layout.blocks()), tiles = static_cast<std::size_t>(key_tiles(call));
  auto* next = static_cast<std::uint8_t*>(memory);
  const auto take = [&](std::size_t bytes) {
    std::uint8_t* const taken = next;
    next += rounded_up(bytes);
    return taken;
  };
  EightBitOperands operands{};
  operands.q = take(heads * blocks * kQueryBytes);
  operands.k = take(heads * tiles * kOperandBytes);
  operands.v = take(heads * tiles * kOperandBytes);
  operands.k_steps = reinterpret_cast<float*>(take(heads * tiles * sizeof(float)));
  operands.heads = reinterpret_cast<HeadScales*>(take(heads * sizeof(HeadScales)));
  operands.key_tiles = static_cast<int>(tiles);
  return operands;
}

void quantise(const Attention& call, const EightBitOperands& to, const RegionMeans& means, cudaStream_t stream) {
  const QuantiseCall own{.layout = call.layout,
                         .grid = TileGrid(call.layout, call.region_order),
                         .scale = call.scale,
                         .q = {call.q, call.q_strides()},
                         .k = {call.k, call.k_strides()},
                         .v = {call.v, call.v_strides()},
                         .pooled_k = call.pooled_k,
                         .pooled_v = call.pooled_v,
                         .to = to,
                         .means = means};
  call.element == Element::bfloat16 ? launch<Element::bfloat16>(own, stream) : launch<Element::float16>(own, stream);
}

}  // namespace draft::gpu
