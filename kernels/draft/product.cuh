#pragma once
// A 128 x 128 tile of S~ = Q~ K~^T (eq. 6) by mma.sync, sm_80 on: a block of 8 warps of 32 x 64. Each fp32 number is
// the sum of two TF32 numbers, a = a1 + a2, and a b = a1 b1 + a1 b2 + a2 b1 but for 3 * 2^-20 of it; sums are fp32, in
// a fixed order. 16 channels at a time stand in shared memory, the next 48 on their way.

#include <cstdint>

#include "kernels/draft/tile.cuh"

namespace draft::gpu {

class DraftProduct {
  static constexpr int kChannels = 16, kStages = 4;
  static constexpr int kPitch = kChannels + 8;  // floats: the 8-byte reads of half a warp hit every bank once
  static constexpr int kStage = 128 * kPitch;
  static constexpr int kFragments = 2;  // of 16 rows a warp

 public:
  static constexpr int kThreads = 256;
  static constexpr int kSharedBytes = kStages * 2 * kStage * static_cast<int>(sizeof(float));

  // A thread holds the columns column(n) and column(n) + 1, n < kPairs, of the tile's rows row(r), r < kRows.
  static constexpr int kRows = 2 * kFragments, kPairs = 8;
  __device__ static int row(int r) { return warp() / 2 * 32 + r * 8 + lane() / 4; }
  __device__ static int column(int n) { return warp() % 2 * 64 + n * 8 + lane() % 4 * 2; }
  static_assert(kSharedBytes >= kTileBytes);
  [[nodiscard]] __device__ float at(int r, int n, int i) const { return sums_[r / 2][n][r % 2 * 2 + i]; }

  /// Rows [first_row, + 128) of q and [first_column, + 128) of k, both [count, dim]; what lies outside counts as 0.
  /// `memory` is kSharedBytes of shared memory, free again when this returns.
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
      __syncthreads();  // this chunk is there, and nobody reads the one before any more
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
    std::uint32_t large[2], small[2];  // of two neighbouring channels
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

  /// 8 channels. Which of them a thread's two are does not matter, if Q~ and K~ agree: two neighbours.
  __device__ void multiply(const float* own_q, const float* own_k) {
    Split q[kFragments][2];
#pragma unroll
    for (int m = 0; m < kFragments; ++m) {
      q[m][0] = split_two(own_q + m * 16 * kPitch);
      q[m][1] = split_two(own_q + (m * 16 + 8) * kPitch);
    }
    constexpr int kGroup = 4;  // columns of fragments at a time: 8 products between two that depend on each other
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
