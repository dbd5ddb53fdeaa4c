#pragma once
// The running softmax of a warpgroup's 64 rows of integer products with a block's 128 keys, biased, in the registers
// that wgmma leaves them in: a thread holds parts of two rows, as in wgmma/softmax.cuh.
//
// Weights go to E4M3, whose numbers are 2^-9 to 448. They are 2^(x - shift + kOffset) for a base-2 logit x; the shift
// is a maximum of the row so far, raised once a logit is more than kSlack above it. So no weight is above 448, and a
// weight of 2^-17 of the row's largest is still above 0.

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

  /// `upper`, `lower`: RowTerms' factors of this thread's two rows.
  __device__ EightBitSoftmax(float upper, float lower) : factor_{upper, lower} {}

  /// A block's products become exponents of weights, floats in the same registers. Columns from `keys` on are no keys.
  /// kFirst: it is the row's first block.
  template <bool kFirst>
  __device__ void exponents(std::int32_t (&s)[64], float step, int keys, int lane) {
    float(&x)[64] = as_floats(s);
    if (keys < kTileRows) {
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        if (column(i, lane) >= keys) s[i] = INT32_MIN;
      }
    }
    const float factor[2] = {factor_[0] * step, factor_[1] * step};
    const float top[2] = {unbiased(most(s, 0)) * factor[0], unbiased(most(s, 1)) * factor[1]};
    if constexpr (kFirst) {
      float rise[2];
      raise(top, rise);
      begin();
    }
    // Later blocks first take the shift as it is, and mostly it stays: the maximum is found meanwhile.
    const float offset[2] = {fmaf(-kIntegerBias, factor[0], kOffset - shift_[0]),
                             fmaf(-kIntegerBias, factor[1], kOffset - shift_[1])};
#pragma unroll
    for (int i = 0; i < 64; ++i) x[i] = fmaf(__int_as_float(s[i]), factor[i / 2 % 2], offset[i / 2 % 2]);
    if (keys < kTileRows) {
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        if (column(i, lane) >= keys) x[i] = kMinusInfinity;
      }
    }
    if constexpr (!kFirst) {
      if (exceeds(top)) {
        float rise[2];
        raise(top, rise);
#pragma unroll
        for (int i = 0; i < 64; ++i) x[i] -= rise[i / 2 % 2];
      }
    }
  }

  /// The same for a tile of pooled rows.
  template <bool kFirst>
  __device__ void pooled_exponents(std::int32_t (&s)[64], float step, const PooledTerms& terms, int lane) {
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
        top[i / 2 % 2] = fmaxf(top[i / 2 % 2], x[i]);
      }
    }
    if (kFirst || exceeds(top)) {
      float rise[2];
      raise(top, rise);
    }
    if constexpr (kFirst) begin();
      // Without any key so far the shift is -inf, and so is every logit.
#pragma unroll
    for (int i = 0; i < 64; ++i) x[i] += kOffset - fmaxf(shift_[i / 2 % 2], kLowest);
  }

  /// Exponents become weights, in E4M3 and in the order of key_at_place().
  __device__ static void weigh(std::uint32_t (&p)[4][4], std::int32_t (&s)[64]) {
    const float(&x)[64] = as_floats(s);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 16 * k + i / 2 * 8 + i % 2 * 2;  // of the first of two columns, which are 8 columns apart
        p[k][i] = pack_e4m3(exp2_fast(x[at]), exp2_fast(x[at + 1]), exp2_fast(x[at + 4]), exp2_fast(x[at + 5]));
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

  static constexpr float kOffset = 7.0F, kSlack = 1.75F;  // 2^8.75 = 431

 private:
  static constexpr float kLowest = -1.0e30F;  // a shift below all logits

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

  __device__ bool exceeds(const float (&top)[2]) const {
    return __any_sync(0xffffffffU, top[0] > shift_[0] + kSlack || top[1] > shift_[1] + kSlack);
  }

  /// Raises the shift to the maximum of the row, of which `top` is this thread's part; `rise`: by how much.
  __device__ void raise(const float (&top)[2], float (&rise)[2]) {
    rises_ = true;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float risen = fmaxf(shift_[half], quad_maximum(top[half]));
      rise[half] = risen == kMinusInfinity ? 0.0F : risen - shift_[half];  // -inf: no key yet
      shrink_[half] = exp2_fast(-rise[half]);
      shift_[half] = risen;
      aside_[half] *= shrink_[half];
    }
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
