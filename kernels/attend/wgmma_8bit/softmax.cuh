#pragma once
// The running softmax of a warpgroup's 64 rows of integer products with a block's 128 keys, biased, in the registers
// that wgmma leaves them in: a thread holds parts of two rows, as in wgmma/softmax.cuh.
//
// Weights are 2^(x - shift + kOffset) for a base-2 logit x, in E4M3. The bits of an E4M3 number, read as a whole
// number, are a code: 8 times its exponent, and its mantissa. Between powers of two the code is linear in the number,
// and so about 8 log2 of it. So a logit becomes a code by a multiplication and rounding, without an exponential (N.
// Schraudolph, "A Fast, Compact Approximation of the Exponential Function", 1999, does so in 64 bits). A weight is then
// (1 + f) 2^-f times what it should be, f in [0, 1) being the fraction of its logarithm: 1 to 1.062, kMeanExcess on
// average. What all weights have in common cancels in O, since the sums are of the weights as they are; the log-sum-exp
// gets it back.
//
// The shift is a maximum of the row so far, raised once a code is above 126, E4M3's largest number (127 is NaN): once a
// logit is 0.8 above it. A weight of 2^-15 of the row's largest is still above 0.

#include <cstdint>

#include "kernels/attend/wgmma/softmax.cuh"
#include "kernels/ptx/wgmma.cuh"

namespace draft::gpu {

class EightBitSoftmax {
 public:
  /// What a tile of pooled rows adds to its products' logits. Words of 32 rows: a bit of `chosen` for each that is a
  /// key; its term is `whole`, and `narrow` and `low` where those have a bit, which they have only if `ragged`.
  struct PooledTerms {
    const std::uint32_t *chosen, *narrow_bits, *low_bits;
    float whole, narrow, low;
    bool ragged;
  };

  /// Codes of 64 weights, 16 bits each, in the order of their products.
  using Codes = std::uint32_t[32];

  /// `upper`, `lower`: RowTerms' factors of this thread's two rows.
  __device__ EightBitSoftmax(float upper, float lower) : factor_{upper, lower} {}

  /// The codes of a block's weights, from its products. Columns from `keys` on are no keys: they get code 0, and -inf
  /// in `s`. kFirst: it is the row's first block.
  template <bool kFirst>
  __device__ void codes(Codes& to, std::int32_t (&s)[64], float step, int keys, int lane) {
    if (keys < kTileRows) {
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        if (column(i, lane) >= keys) s[i] = __float_as_int(kMinusInfinity);
      }
    }
    const float factor[2] = {factor_[0] * step, factor_[1] * step};
    if constexpr (kFirst) {
      raise({most(s, 0), most(s, 1)}, factor);
      begin();
      encode<true>(to, s, factor);
    } else {
      // The shift is first taken as it is, and mostly it stays.
      encode<false>(to, s, factor);
      if (needs_care(to, factor)) {
        raise({most(s, 0), most(s, 1)}, factor);
        encode<true>(to, s, factor);
      }
    }
  }

  /// The same for a tile of pooled rows.
  template <bool kFirst>
  __device__ void pooled_codes(Codes& to, std::int32_t (&s)[64], float step, const PooledTerms& terms, int lane) {
    float(&x)[64] = as_floats(s);
    float top[2] = {kMinusInfinity, kMinusInfinity};
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      __syncwarp();  // keeps the four words from being loaded at once: there are no registers for them
      const std::uint32_t chosen = terms.chosen[word] >> lane % 4 * 2;
      std::uint32_t narrow = 0, low = 0;
      if (terms.ragged) {
        narrow = terms.narrow_bits[word] >> lane % 4 * 2;
        low = terms.low_bits[word] >> lane % 4 * 2;
      }
#pragma unroll
      for (int i = 16 * word; i < 16 * word + 16; ++i) {
        const int bit = i / 4 % 4 * 8 + i % 2;
        float logit = fmaf(unbiased(s[i]), factor_[i / 2 % 2] * step, terms.whole);
        if ((narrow >> bit & 1) != 0) logit += terms.narrow;
        if ((low >> bit & 1) != 0) logit += terms.low;
        x[i] = (chosen >> bit & 1) != 0 ? logit : kMinusInfinity;
        top[i / 2 % 2] = maximum_or_nan(top[i / 2 % 2], x[i]);
      }
    }
    if (kFirst || __any_sync(0xffffffffU, !(top[0] <= shift_[0] + kSlack && top[1] <= shift_[1] + kSlack))) raise(top);
    if constexpr (kFirst) begin();
    // Without any key so far the shift is -inf, and so is every logit. NaN stays NaN.
    const float offset[2] = {kTop - (shift_[0] < kLowest ? kLowest : shift_[0]),
                             kTop - (shift_[1] < kLowest ? kLowest : shift_[1])};
#pragma unroll
    for (int i = 0; i < 64; ++i) x[i] = fminf(__saturatef((x[i] + offset[i / 2 % 2]) * kCode), kLargestCode);
#pragma unroll
    for (int i = 0; i < 32; ++i) to[i] = whole_numbers(x[2 * i], x[2 * i + 1]);
  }

  /// Codes become bytes, in the order of key_at_place().
  __device__ static void weigh(std::uint32_t (&p)[4][4], const Codes& codes) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 8 * k + i / 2 * 4 + i % 2;  // of two columns' codes; the next two of the row are 8 columns apart
        p[k][i] = __byte_perm(codes[at], codes[at + 2], 0x6420);
      }
    }
  }

  /// Scales sums that hold the blocks before the last exponents to the current shift.
  __device__ void scale_down(float (&o)[68]) {
    if (!rises_) return;
#pragma unroll
    for (int i = 0; i < 68; ++i) o[i] *= shrink_[i / 2 % 2];
    rises_ = false;
  }
  /// What sums that were put aside have to be multiplied by; then 1 again.
  __device__ float2 take_factor() {
    const float2 factor = make_float2(aside_[0], aside_[1]);
    aside_[0] = aside_[1] = 1.0F;
    return factor;
  }
  __device__ float2 shift() const { return make_float2(shift_[0], shift_[1]); }

  static constexpr float kOffset = 8.125F;                   // log2 of the weight of a logit at the shift: code 121
  static constexpr float kMeanExcess = 1.0406844905F;        // of (1 + f) 2^-f: 1 / (2 ln(2)^2)
  static constexpr float kLogOfUnit = kOffset + 0.0575327F;  // log2 of what sums are too large by, with kMeanExcess

 private:
  static constexpr float kLowest = -1.0e30F;  // a shift below all logits
  static constexpr float kBias = 7.0F;        // of E4M3's exponents
  static constexpr float kTop = kOffset + kBias;
  // A code is computed as so many units of half precision's smallest number, 2^-24: to round it to a whole number is
  // then to round to half precision, whose bits are the number.
  static constexpr float kUnit = 0x1p-24F, kCode = 8.0F * kUnit;
  static constexpr int kLargest = 126;
  static constexpr float kLargestCode = kLargest * kUnit;
  static constexpr float kSlack = kLargest / 8.0F - kTop;
  // Up to this factor fp32's roundings move a code by 1.2 at most: kIntegerBias factor 2^-24 octaves for the offset,
  // and a third of that for the maximum and the shift.
  static constexpr float kLargeFactor = 0.15F;

  /// The codes of two weights, each in 16 bits.
  __device__ static std::uint32_t whole_numbers(float low, float high) {
    std::uint32_t both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
  }

  __device__ static float (&as_floats(std::int32_t (&s)[64]))[64] { return reinterpret_cast<float(&)[64]>(s); }
  /// The sum of products that a biased integer stands for.
  __device__ static float unbiased(std::int32_t s) { return __int_as_float(s) - kIntegerBias; }
  /// The block's column of number i of a thread.
  __device__ static int column(int i, int lane) { return i / 4 * 8 + lane % 4 * 2 + i % 2; }

  /// The maximum of a thread's part of one of its rows.
  __device__ static int most(const std::int32_t (&s)[64], int half) {
    const auto own = [&](int n) { return s[n / 2 * 4 + 2 * half + n % 2]; };
    int parts[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      parts[k] = __vimax3_s32(own(8 * k), own(8 * k + 1), own(8 * k + 2));
      parts[k] = __vimax3_s32(parts[k], own(8 * k + 3), own(8 * k + 4));
      parts[k] = __vimax3_s32(parts[k], own(8 * k + 5), own(8 * k + 6));
    }
    parts[0] = __vimax3_s32(parts[0], own(7), own(15));
    parts[3] = __vimax3_s32(parts[3], own(23), own(31));
    return max(__vimax3_s32(parts[0], parts[1], parts[2]), parts[3]);
  }

  /// The codes of products at the current shift, those above the largest as they are unless `kCut`. NaN: 0.
  template <bool kCut>
  __device__ void encode(Codes& to, const std::int32_t (&s)[64], const float (&factor)[2]) const {
    const float offset[2] = {fmaf(-kIntegerBias, factor[0], kTop - shift_[0]) * kCode,
                             fmaf(-kIntegerBias, factor[1], kTop - shift_[1]) * kCode};
    const float to_code[2] = {factor[0] * kCode, factor[1] * kCode};
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      float x[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        x[j] = __saturatef(fmaf(__int_as_float(s[2 * i + j]), to_code[i % 2], offset[i % 2]));
        if constexpr (kCut) x[j] = fminf(x[j], kLargestCode);
      }
      to[i] = whole_numbers(x[0], x[1]);
    }
  }
  /// Whether a code is above the largest, or may be although it is not: a row's factor is large, or NaN.
  __device__ static bool needs_care(const Codes& codes, const float (&factor)[2]) {
    std::uint32_t most = codes[0];
#pragma unroll
    for (int i = 1; i < 31; i += 2) most = __vimax3_u16x2(most, codes[i], codes[i + 1]);
    most = __vmaxu2(most, codes[31]);
    const bool fine =
        (most & 0xffffU) <= kLargest && most >> 16 <= kLargest && factor[0] < kLargeFactor && factor[1] < kLargeFactor;
    return __any_sync(0xffffffffU, !fine);
  }

  /// Raises the shift to the maximum of the row, of which `top` is this thread's part. From a NaN on the shift is NaN,
  /// and so are O and the log-sum-exp: a code has none.
  __device__ void raise(const float (&top)[2]) {
    rises_ = true;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float risen = maximum_or_nan(shift_[half], quad_maximum(top[half]));
      const float rise = risen == kMinusInfinity ? 0.0F : risen - shift_[half];  // -inf: no key yet
      const float shrink = exp2_fast(-rise);
      shrink_[half] = shrink;
      shift_[half] = risen;
      aside_[half] *= shrink;
    }
  }
  __device__ void raise(const int (&top)[2], const float (&factor)[2]) {
    raise({unbiased(top[0]) * factor[0], unbiased(top[1]) * factor[1]});
  }
  __device__ static float maximum_or_nan(float x, float y) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(x), "f"(y));
    return larger;
  }
  /// After the first block, which has no sums before it.
  __device__ void begin() {
    rises_ = false;
    aside_[0] = aside_[1] = 1.0F;
  }

  float factor_[2];  // a product times this and the block's step is a base-2 logit
  float shift_[2] = {kMinusInfinity, kMinusInfinity};
  float shrink_[2] = {1.0F, 1.0F};  // if rises_: the factor that scale_down() applies
  float aside_[2] = {1.0F, 1.0F};
  bool rises_ = false;
};

}  // namespace draft::gpu
