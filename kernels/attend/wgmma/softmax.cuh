#pragma once
// The running softmax of a warpgroup's 64 rows of logits, in the registers that wgmma leaves them in.
// A thread holds parts of two rows, lane / 4 and lane / 4 + 8 of its warp's 16: 32 of a block's 128 columns of each.
// The four threads of a quad share two rows. Each sums its own columns; finish() adds the four sums.

#include <cstdint>
#include <limits>

#include "kernels/core/logarithms.hpp"
#include "kernels/ptx/mma.cuh"

namespace draft::gpu {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// Sets the logits of columns that are no tokens to -inf, and with kTerm adds `term` to the others. Column c is a token
/// if bit c % 32 of word c / 32 of `real` is 1.
template <bool kTerm>
__device__ inline void mask_columns(float (&s)[64], uint4 real, int lane, float term = 0.0F) {
  const std::uint32_t words[4] = {real.x, real.y, real.z, real.w};
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    const std::uint32_t own = words[word] >> (lane % 4 * 2);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float &upper = s[word * 16 + n * 4 + i], &lower = s[word * 16 + n * 4 + 2 + i];
        if ((own >> (n * 8 + i) & 1) == 0) {
          upper = lower = kMinusInfinity;
        } else if constexpr (kTerm) {
          upper += term;
          lower += term;
        }
      }
    }
  }
}

/// Adds `term` to the logits of columns 32 word to 32 word + 31 whose bit in `chosen` is 1.
__device__ inline void add_to_columns(float (&s)[64], int word, std::uint32_t chosen, float term, int lane) {
  const std::uint32_t own = chosen >> (lane % 4 * 2);
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if ((own >> (n * 8 + i) & 1) == 0) continue;
      s[word * 16 + n * 4 + i] += term;
      s[word * 16 + n * 4 + 2 + i] += term;
    }
  }
}

__device__ inline float quad_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffU, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffU, x, 1);
  return x + __shfl_xor_sync(0xffffffffU, x, 2);
}
/// The maximum of a thread's part of one of its two rows.
__device__ inline float row_maximum(const float (&s)[64], int half) {
  float even = fmaxf(s[2 * half], s[2 * half + 1]), odd = fmaxf(s[4 + 2 * half], s[5 + 2 * half]);
#pragma unroll
  for (int n = 2; n < 16; n += 2) {
    even = fmaxf(even, fmaxf(s[4 * n + 2 * half], s[4 * n + 2 * half + 1]));
    odd = fmaxf(odd, fmaxf(s[4 * n + 4 + 2 * half], s[4 * n + 5 + 2 * half]));
  }
  return fmaxf(even, odd);
}

/// P in the element type, as left operands of wgmma: p[n] holds columns 16 n to 16 n + 15.
template <Element kElement>
__device__ inline void pack_weights(std::uint32_t (&p)[8][4], const float (&s)[64]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) p[i / 4][i % 4] = pack<kElement>(s[2 * i], s[2 * i + 1]);
}

/// How a row's weights stay within the range of P's element type. Weights are 2^(scale2 s - shift); the shift starts as
/// the first block's maximum.
enum class MaximumTracking {
  every_block,  // the shift follows each block's maximum, so no exponent is above 8. Safe for every input and type
  first_block,  // no later maximum is taken; sums above 2^24 are scaled down after their block. A third less
                // arithmetic. For bf16 alone, whose range is fp32's. Logits that rise by more than about 96 / log2 e
                // from one block to the next overflow; then finish() returns false
};

template <MaximumTracking kMaximum>
class RowSoftmax {
 public:
  __device__ explicit RowSoftmax(float scale) : scale2_(scale * static_cast<float>(kLog2E)) {}

  /// The first block's logits become exponents, 0 at each row's maximum.
  __device__ void begin(float (&s)[64]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) shift_[half] = quad_maximum(row_maximum(s, half)) * scale2_;
    subtract(s);
  }

  /// A later block's logits become exponents.
  __device__ void exponents(float (&s)[64]) {
    subtract(s);
    if constexpr (kMaximum == MaximumTracking::every_block) {
      // The bits are compared as integers, because vimax3 takes three operands at once. Positive floats keep their
      // order as integers, negative ones are below them, and a NaN with a plus sign is above. So `most` is the maximum,
      // or some negative number if the maximum is negative, and then nothing rises.
      int most = __vimax3_s32(__float_as_int(s[0]), __float_as_int(s[1]), __float_as_int(s[2]));
#pragma unroll
      for (int i = 3; i < 63; i += 2) most = __vimax3_s32(most, __float_as_int(s[i]), __float_as_int(s[i + 1]));
      most = max(most, __float_as_int(s[63]));
      rises_ = __any_sync(0xffffffffU, most > __float_as_int(kMostExponent));
      if (rises_) raise_to_maximum(s);
    }
  }

  /// Exponents become weights, which are added to the sums.
  __device__ void weigh(float (&s)[64]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float even, odd;
#pragma unroll
      for (int n = 0; n < 16; ++n) {
        float& left = s[4 * n + 2 * half];
        float& right = s[4 * n + 2 * half + 1];
        left = exp2_fast(left);
        right = exp2_fast(right);
        even = n == 0 ? left : even + left;
        odd = n == 0 ? right : odd + right;
      }
      total_[half] += even + odd;
    }
  }

  /// Called after weigh() and after the weights are packed: a branch between those two would stop ptxas from
  /// interleaving them.
  __device__ void look_at_sums() {
    if constexpr (kMaximum == MaximumTracking::first_block) {
      rises_ = __any_sync(0xffffffffU, fmaxf(total_[0], total_[1]) > kMostSum);
      if (rises_) raise_by_sums();
    }
  }

  /// Scales O, which so far holds the blocks before the last one that exponents() saw, to the current shift. With
  /// `first_block` it is called once more when O is complete.
  template <int kSums>
  __device__ void scale_down(float (&o)[kSums]) {
    if (!rises_) return;
#pragma unroll
    for (int i = 0; i < kSums; ++i) o[i] *= shrink_[i / 2 % 2];
    rises_ = false;
  }

  /// After the last block: divides O by the sums (0 where a row has no key) and gives the rows' log-sum-exp. False if
  /// something overflowed or is not finite; always true with `every_block`.
  template <int kSums>
  __device__ bool finish(float (&o)[kSums], float (&lse)[2]) const {
    bool sound = true;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = quad_sum(total_[half]);  // if the row has a key: at least 1, its maximum's weight, or NaN
      const bool none = sum == 0.0F;
      const float inverse = none ? 0.0F : __fdividef(1.0F, sum);
      lse[half] = none ? kMinusInfinity : fmaf(shift_[half], static_cast<float>(kLn2), logf(sum));
      float zero = 0.0F;  // NaN if a number of O is not finite
#pragma unroll
      for (int i = 0; i < kSums / 4; ++i) {
        float &left = o[4 * i + 2 * half], &right = o[4 * i + 2 * half + 1];
        if constexpr (kMaximum == MaximumTracking::first_block) zero = fmaf(left, 0.0F, fmaf(right, 0.0F, zero));
        left *= inverse;
        right *= inverse;
      }
      if constexpr (kMaximum == MaximumTracking::first_block) sound = sound && sum < kLargestSum && zero == 0.0F;
    }
    return sound;
  }

 private:
  static constexpr float kMostExponent = 8.0F;  // 2^8: far below fp16's largest number
  static constexpr float kMostSum = 0x1p24F;
  static constexpr float kLargestSum = 0x1p126F;  // __fdividef gives 0 for a larger divisor

  __device__ void subtract(float (&s)[64]) const {
#pragma unroll
    for (int i = 0; i < 64; ++i) s[i] = fmaf(s[i], scale2_, -shift_[i / 2 % 2]);
  }

  __device__ void raise_to_maximum(float (&s)[64]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float risen = shift_[half] + fmaxf(quad_maximum(row_maximum(s, half)), 0.0F);
      const float rise = risen - shift_[half];
      shift_[half] = risen;
      shrink_[half] = exp2_fast(-rise);
      total_[half] *= shrink_[half];
#pragma unroll
      for (int n = 0; n < 16; ++n) {
        s[4 * n + 2 * half] -= rise;
        s[4 * n + 2 * half + 1] -= rise;
      }
    }
  }

  /// Raises the shift by a whole number, so that sums and O are scaled by a power of two: exact.
  __device__ void raise_by_sums() {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int biased =
          __float_as_int(quad_maximum(total_[half])) >> 23;  // the exponent's bits; the sign is 0, sums are positive
      const int rise = min(max(biased - 127, 0), 126);
      shift_[half] += static_cast<float>(rise);
      shrink_[half] = __int_as_float((127 - rise) << 23);
      total_[half] *= shrink_[half];
    }
  }

  float scale2_;                   // softmax scale * log2 e
  float shift_[2] = {0.0F, 0.0F};  // subtracted from scale2_ * logit
  float total_[2] = {0.0F, 0.0F};
  float shrink_[2] = {1.0F, 1.0F};  // if rises_: the factor that scale_down() applies to O
  bool rises_ = false;
};

}  // namespace draft::gpu
