#pragma once
// What attend_8bit reads: Q and K as INT8 and V as E4M3, cut into blocks of the mask and laid out as the tensor cores
// want them, so that a block is one plain copy of consecutive bytes. quantise.cu writes them.
//
// | operand | a tile                                     | scale                                                |
// | ------- | ------------------------------------------ | ---------------------------------------------------- |
// | Q       | 128 queries x 128 channels, INT8; RowTerms | one a query: its largest |q| / 127                    |
// | K       | 128 keys x 128 channels, INT8, less a mean | one a block: its largest |k - mean| / 127             |
// | V       | 128 channels x 128 keys, E4M3              | one a head, a power of two                           |
//
// A block's tokens are the first rows of its tiles of Q and K, and keys of V in the order of key_at_place(); the rest
// is 0. Every row has 128 bytes, under the copy engine's 128-byte swizzle.
// The mean of K changes no weight: q . mean is the same for all keys of a row. It is added to the log-sum-exp.

#include <cstddef>
#include <cstdint>

#include "kernels/attend/attention.hpp"
#include "kernels/ptx/wgmma_descriptor.hpp"

namespace draft::gpu {

inline constexpr int kTileSide = 128;  // rows and columns of a tile
inline constexpr int kOperandBytes = kTileSide * kTileSide;

/// What a row of Q has beside its numbers, behind the tile.
struct RowTerms {
  float factor[kTileSide];  // softmax scale * log2 e * the row's step; times a block's step: products to base-2 logits
  float lse_term[kTileSide];  // softmax scale * q . mean of K
};
inline constexpr int kQueryBytes = kOperandBytes + static_cast<int>(sizeof(RowTerms));

/// The key of a block at a place of V's rows. The weights P stand in a warp's registers in this order, so that they are
/// the left operand of P V as they are: four consecutive places belong to one lane, which has the keys 2 l, 2 l + 1,
/// 2 l + 8 and 2 l + 9 of 16.
DRAFT_HOST_DEVICE constexpr int key_at_place(int place) {
  const int in_16 = place % 16, lane = in_16 / 4, i = in_16 % 4;
  return place - in_16 + i / 2 * 8 + 2 * lane + i % 2;
}

inline constexpr float kLargestE4M3 = 448.0F;

/// One head's statistics. V is stored times a power of two that brings the rms of a sample to 1 to 2: E4M3 then has
/// full precision from 1/128 to 224 times the rms. If a number is larger than that, the scale follows the largest
/// number.
struct HeadScales {
  float mean_k[kTileSide];  // of a sample of the tokens
  float sampled_scale;      // scale_for(rms of the sampled v, 0); NaN if that is 0
  std::uint32_t
      largest_bits;  // the largest finite |v| of all tokens, as an integer: non-negative floats keep their order

  /// The power of two that brings x >= 0 to 2^to up to 2^(to + 1); 1 for 0.
  static DRAFT_HOST_DEVICE float scale_for(float x, int to) {
    if (x == 0.0F) return 1.0F;
    constexpr int kMost = 126, kLeast = -100;  // the scale and a row's sum times it stay normal numbers
    int exponent = static_cast<int>(__builtin_bit_cast(std::uint32_t, x) >> 23) - 127;
    exponent = exponent > kMost ? kMost : exponent < kLeast ? kLeast : exponent;
    return __builtin_bit_cast(float, static_cast<std::uint32_t>(127 + to - exponent) << 23);
  }
  DRAFT_HOST_DEVICE float v_scale() const {
    const auto largest = __builtin_bit_cast(float, largest_bits);
    return largest * sampled_scale <= kLargestE4M3 ? sampled_scale : scale_for(largest, 7);
  }
};

/// Tokens of a head's sample, about.
inline constexpr int kSampledTokens = 2048;

/// The operands of a call, in device memory. Behind a head's blocks of keys stand tiles of 128 pooled rows, if the call
/// has a remainder.
struct EightBitOperands {
  std::uint8_t* q;    // [heads, blocks, kQueryBytes]
  std::uint8_t* k;    // [heads, key tiles, kOperandBytes]
  std::uint8_t* v;    // [heads, key tiles, kOperandBytes]
  float* k_steps;     // [heads, key tiles]
  HeadScales* heads;  // [heads]
  int key_tiles;      // blocks and tiles of pooled rows
};

/// Where quantise() puts the mean of each region's q and k, as pool() makes them but for the order of sums; null:
/// nowhere.
struct RegionMeans {
  float* q = nullptr;  // [heads, regions, head_dim]
  float* k = nullptr;  // [heads, regions, head_dim]
  /// Where a region's mean goes: null if `block` is none, or nothing is wanted.
  static DRAFT_HOST_DEVICE float* of(float* means, const Layout& layout, int head, int block) {
    if (means == nullptr || block >= layout.regions()) return nullptr;
    return means + (static_cast<std::int64_t>(head) * layout.regions() + block) * kTileSide;
  }
};

/// Bytes of the operands of `call`, a multiple of 16.
std::size_t eight_bit_bytes(const Attention& call);
/// The operands of `call` in `memory`, aligned to 128 bytes. Host arithmetic only.
EightBitOperands place_operands(const Attention& call, void* memory);
/// Enqueues the writing of the operands: q, k and v are read once, and a sample of k and v before. Regions of at most
/// 128 tokens, head_dim 128.
void quantise(const Attention& call, const EightBitOperands& to, const RegionMeans& means, cudaStream_t stream);

}  // namespace draft::gpu
