#pragma once
// The running softmax of a warpgroup's 64 rows of logits, in the registers that wgmma leaves them in.
// A thread holds two rows, lane / 4 and lane / 4 + 8 of its warp's 16, and of each 32 of a block's 128 columns; the
// four threads of a quad share the rows. Sums stay apart until the end.

#include <cstdint>
#include <limits>

#include "kernels/mma.cuh"

namespace draft::gpu {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// Gives -inf to the logits of columns that are no tokens: bit c % 32 of word c / 32 of `real` says that column c is.
__device__ inline void mask_columns(float (&s)[64], uint4 real, int lane) {
  const std::uint32_t words[4] = {real.x, real.y, real.z, real.w};
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    const std::uint32_t own = words[word] >> (lane % 4 * 2);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if ((own >> (n * 8 + i) & 1) != 0) continue;
        s[word * 16 + n * 4 + i] = s[word * 16 + n * 4 + 2 + i] = kMinusInfinity;
      }
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

/// kElement's P as the left side of a product: p[n] holds columns 16 n to 16 n + 15.
template <Element kElement>
__device__ inline void pack_weights(std::uint32_t (&p)[8][4], const float (&s)[64]) {
#pragma unroll
  for (int i = 0; i < 32; ++i) p[i / 4][i % 4] = pack<kElement>(s[2 * i], s[2 * i + 1]);
}

class RowSoftmax {
 public:
  __device__ explicit RowSoftmax(float scale) : scale2_(scale * kLog2E) {}

  /// Turns logits into weights 2^(scale2 (s - shift)) and adds them to the sums. The shift is a row's maximum so
  /// far, or an earlier one as long as no row of the warp exceeds its own by kSlack: then O need not be scaled.
  __device__ void weigh(float (&s)[64]) {
    float highest[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float even = fmaxf(s[2 * half], s[2 * half + 1]), odd = fmaxf(s[4 + 2 * half], s[5 + 2 * half]);
#pragma unroll
      for (int n = 2; n < 16; n += 2) {
        even = fmaxf(even, fmaxf(s[4 * n + 2 * half], s[4 * n + 2 * half + 1]));
        odd = fmaxf(odd, fmaxf(s[4 * n + 4 + 2 * half], s[4 * n + 5 + 2 * half]));
      }
      highest[half] = quad_maximum(fmaxf(even, odd));
    }
    const bool above = (highest[0] - shift_[0]) * scale2_ > kSlack || (highest[1] - shift_[1]) * scale2_ > kSlack;
    rises_ = __any_sync(0xffffffffU, above);  // the first time: inf > kSlack
    if (rises_) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float risen = fmaxf(shift_[half], highest[half]);
        shrink_[half] = exp2_fast((shift_[half] - risen) * scale2_);  // the first time: 0
        shift_[half] = risen;
        total_[half] *= shrink_[half];
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float scaled = shift_[half] * scale2_;
      float even, odd;
#pragma unroll
      for (int n = 0; n < 16; ++n) {
        float& left = s[4 * n + 2 * half];
        float& right = s[4 * n + 2 * half + 1];
        left = exp2_fast(fmaf(left, scale2_, -scaled));
        right = exp2_fast(fmaf(right, scale2_, -scaled));
        even = n == 0 ? left : even + left;
        odd = n == 0 ? right : odd + right;
      }
      total_[half] += even + odd;
    }
  }

  /// Holds the wait for a running product behind weigh(): without a branch that needs its result, the assembler
  /// puts the wait first and the exponentials no longer run beside the product. No sum is ever negative.
  __device__ void stay_ahead_of_wait() const {
    if (__any_sync(0xffffffffU, fminf(total_[0], total_[1]) < 0.0F)) __trap();
  }

  /// After weigh(), before the next product is added to O.
  template <int kSums>
  __device__ void scale_down(float (&o)[kSums]) const {
    if (!rises_) return;
#pragma unroll
    for (int i = 0; i < kSums; ++i) o[i] *= shrink_[i / 2 % 2];
  }

  /// After the last block: divides O by the sums (0 where a row has no key) and gives the rows' log-sum-exp.
  template <int kSums>
  __device__ void finish(float (&o)[kSums], float (&lse)[2], float scale) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = quad_sum(total_[half]);  // of a row with keys at least 1, its maximum's weight, or NaN
      const bool none = sum == 0.0F;
      const float inverse = none ? 0.0F : __fdividef(1.0F, sum);
      lse[half] = none ? kMinusInfinity : fmaf(shift_[half], scale, logf(sum));
#pragma unroll
      for (int i = 0; i < kSums / 4; ++i) {
        o[4 * i + 2 * half] *= inverse;
        o[4 * i + 2 * half + 1] *= inverse;
      }
    }
  }

 private:
  static constexpr float kLog2E = 1.4426950408889634F;
  /// Weights may grow to 2^kSlack before O and the sums are scaled down: far below fp16's largest number.
  static constexpr float kSlack = 8.0F;

  float scale2_;  // softmax scale * log2 e
  float shift_[2] = {kMinusInfinity, kMinusInfinity};
  float total_[2] = {0.0F, 0.0F};
  float shrink_[2] = {1.0F, 1.0F};
  bool rises_ = false;
};

}  // namespace draft::gpu
