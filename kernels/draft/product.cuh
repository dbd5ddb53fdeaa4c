#pragma once
// A 128 x 128 tile of S~ = Q~ K~^T (eq. 6) by mma.sync, sm_80 on: a CTA of 8 warps, each with 32 x 64. Each fp32 number
// is split into two TF32 numbers, a = a1 + a2, and a b is taken as a1 b1 + a1 b2 + a2 b1, with a relative error of at
// most 3 * 2^-20; sums are fp32, in a fixed order. A pipeline of 4 stages of 16 channels: one is used while 3 are
// copied.

#include <cstdint>

#include "kernels/draft/tile.cuh"

namespace draft::gpu {

class DraftProduct {
  static constexpr int kChannels = 16, kStages = 4;
  static constexpr int kPitch =
      kChannels + 8;  // floats of a row, padded: half a warp's 8-byte reads hit each bank once
  static constexpr int kStage = 128 * kPitch;
  static constexpr int kFragments = 2;  // fragments of 16 rows of a warp

 public:
  static constexpr int kThreads = 256;
  static constexpr int kSharedBytes = kStages * 2 * kStage * static_cast<int>(sizeof(float));

  // A thread holds columns column(n) and column(n) + 1, n < kPairs, of tile rows row(r), r < kRows.
  static constexpr int kRows = 2 * kFragments, kPairs = 8;
  __device__ static int row(int r) { return warp() / 2 * 32 + r * 8 + lane() / 4; }
  __device__ static int column(int n) { return warp() % 2 * 64 + n * 8 + lane() % 4 * 2; }
  static_assert(kSharedBytes >= kTileBytes);
  [[nodiscard]] __device__ float at(int r, int n, int i) const { return sums_[r / 2][n][r % 2 * 2 + i]; }

  /// The product of rows [first_row, first_row + 128) of q and [first_column, first_column + 128) of k. Both are
  /// [count, dim]; rows and channels outside count as 0. `memory`: kSharedBytes of shared memory, free again on return.
  __device__ void compute(const float* q, const float* k, int count, int dim, int first_row, int first_column,
                          unsigned char* memory) {
    const auto address = shared_address(memory);
    const auto start = [&](int chunk) {
      if (chunk * kChannels < dim) {
        const std::uint32_t to = address + chunk % kStages * 2 * kStage * static_cast<int>(sizeof(float));
        copy_rows<kThreads, kChannels, kPitch>(to, q, first_row, count, chunk * kChannels, dim);
        copy_rows<kThreads, kChannels, kPitch>(to + kStage * static_cast<int>(sizeof(float)), k, first_column, count,
                                               chunk * kChannels, dim);
      }
      commit_copies();
    };
#pragma unroll
    for (int chunk = 0; chunk < kStages - 1; ++chunk) start(chunk);
    for (int chunk = 0; chunk * kChannels < dim; ++chunk) {
      wait_for_copies<kStages - 2>();
      __syncthreads();  // this chunk has arrived, and all warps have read the one before, whose stage is refilled now
      start(chunk + kStages - 1);
      const float* stage = reinterpret_cast<const float*>(memory) + chunk % kStages * 2 * kStage;
      const float* own_q = stage + row(0) * kPitch + lane() % 4 * 2;
      const float* own_k = stage + kStage + (warp() % 2 * 64 + lane() / 4) * kPitch + lane() % 4 * 2;
#pragma unroll
      for (int step = 0; step < kChannels; step += 8) multiply(own_q + step, own_k + step);
    }
    __syncthreads();
  }

 private:
  float sums_[kFragments][8][4] = {};

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }

  struct Split {
    std::uint32_t large[2], small[2];  // for two neighbouring channels
  };
  __device__ static Split split_two(const float* two) {
    const float2 x = *reinterpret_cast<const float2*>(two);
    const SplitNumber left = split(x.x), right = split(x.y);
    return {{left.large, right.large}, {left.small, right.small}};
  }

  __device__ static void multiply_add(float (&sum)[4], const std::uint32_t (&upper)[2], const std::uint32_t (&lower)[2],
                                      const std::uint32_t (&b)[2]) {
    multiply_add_tf32(sum, upper[0], lower[0], upper[1], lower[1], b[0], b[1]);
  }

  /// Adds the products of 8 channels. A sum over channels may take them in any order, if Q~ and K~ use the same; each
  /// thread takes two neighbours, which one 8-byte read loads, where mma's own layout has channels t and t + 4.
  __device__ void multiply(const float* own_q, const float* own_k) {
    Split q[kFragments][2];
#pragma unroll
    for (int m = 0; m < kFragments; ++m) {
      q[m][0] = split_two(own_q + m * 16 * kPitch);
      q[m][1] = split_two(own_q + (m * 16 + 8) * kPitch);
    }
    constexpr int kGroup = 4;  // fragment columns at a time: 8 independent products between two that add to one sum
#pragma unroll
    for (int group = 0; group < 8; group += kGroup) {
      Split k[kGroup];
#pragma unroll
      for (int n = 0; n < kGroup; ++n) k[n] = split_two(own_k + (group + n) * 8 * kPitch);
#pragma unroll
      for (int n = 0; n < kGroup; ++n) {
#pragma unroll
        for (int m = 0; m < kFragments; ++m) {
          multiply_add(sums_[m][group + n], q[m][0].small, q[m][1].small, k[n].large);
        }
      }
#pragma unroll
      for (int n = 0; n < kGroup; ++n) {
#pragma unroll
        for (int m = 0; m < kFragments; ++m) {
          multiply_add(sums_[m][group + n], q[m][0].large, q[m][1].large, k[n].small);
        }
      }
#pragma unroll
      for (int n = 0; n < kGroup; ++n) {
#pragma unroll
        for (int m = 0; m < kFragments; ++m) {
          multiply_add(sums_[m][group + n], q[m][0].large, q[m][1].large, k[n].large);
        }
      }
    }
  }
};

}  // namespace draft::gpu
