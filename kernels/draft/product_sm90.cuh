#pragma once
// A 128 x 128 tile of S~ = Q~ K~^T (eq. 6) by wgmma, sm_90a: product.cuh's three TF32 products, with two warpgroups of
// 64 x 128 each. For each 32 channels an fp32 copy arrives in shared memory; then Q~ is split into registers and K~
// into shared memory in wgmma's 128-byte swizzle, while the next copy runs.

#include <cstdint>

#include "kernels/draft/tile.cuh"
#include "kernels/ptx/sm90.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/ptx/wgmma_descriptor.hpp"

namespace draft::gpu {

class DraftProductSm90 {
  static constexpr int kChannels = 32, kStages = 2;
  // Floats of a row, padded against bank conflicts: a quarter of a warp reading 16 bytes of K~ a lane, and half a warp
  // reading 8 bytes of Q~ a lane, hit each bank once.
  static constexpr int kPitchQ = kChannels + 8, kPitchK = kChannels + 4;
  static constexpr int kSplitBytes = kSlabBytes;  // bytes of K~'s large numbers, and of its small ones
  static constexpr int kBytesQ = 128 * kPitchQ * static_cast<int>(sizeof(float));
  static constexpr int kStageBytes = kBytesQ + 128 * kPitchK * static_cast<int>(sizeof(float));

 public:
  static constexpr int kThreads = 256;
  static constexpr int kSharedBytes = 2 * kSplitBytes + kStages * kStageBytes;

  // A thread holds columns column(n) and column(n) + 1, n < kPairs, of tile rows row(r), r < kRows.
  static constexpr int kRows = 2, kPairs = 16;
  __device__ static int row(int r) { return warp() * 16 + r * 8 + lane() / 4; }
  __device__ static int column(int n) { return n * 8 + lane() % 4 * 2; }
  static_assert(kSharedBytes >= kTileBytes);
  [[nodiscard]] __device__ float at(int r, int n, int i) const { return sums_[4 * n + 2 * r + i]; }
  __device__ void set(int r, int n, int i, float entry) { sums_[4 * n + 2 * r + i] = entry; }

  /// As DraftProduct::compute; `memory` is aligned to 1,024 bytes.
  __device__ void compute(const float* q, const float* k, int count, int dim, int first_row, int first_column,
                          unsigned char* memory) {
    const std::uint32_t address = shared_address(memory);
    if (address % 1024 != 0) __trap();  // the swizzle is a function of address bits
    unsigned char* stages = memory + 2 * kSplitBytes;
    const auto start = [&](int chunk) {
      if (chunk * kChannels < dim) {
        const std::uint32_t to = shared_address(stages) + chunk % kStages * kStageBytes;
        copy_rows<kThreads, kChannels, kPitchQ>(to, q, first_row, count, chunk * kChannels, dim);
        copy_rows<kThreads, kChannels, kPitchK>(to + kBytesQ, k, first_column, count, chunk * kChannels, dim);
      }
      commit_copies();
    };
    start(0);
    for (int chunk = 0; chunk * kChannels < dim; ++chunk) {
      wait_for_copies();
      __syncthreads();  // this chunk has arrived, and no thread still uses the one before
      start(chunk + 1);
      const unsigned char* stage = stages + chunk % kStages * kStageBytes;
      split_k(reinterpret_cast<const float*>(stage + kBytesQ), memory);
      std::uint32_t a[8][4];  // for each 8 channels: a[2 step] the large numbers, a[2 step + 1] the small ones
      split_q(reinterpret_cast<const float*>(stage), a);
      publish_to_copy_engine();
      __syncthreads();
      const std::uint64_t large = matrix_descriptor(address, 0, kEightRows);
      const std::uint64_t small = matrix_descriptor(address + kSplitBytes, 0, kEightRows);
      begin_products();
#pragma unroll
      for (int step = 0; step < kChannels / 8; ++step) {
        multiply_tf32(sums_, a[2 * step + 1], large + channel_step(step), chunk + step > 0 ? 1 : 0);
        multiply_tf32(sums_, a[2 * step], small + channel_step(step), 1);
        multiply_tf32(sums_, a[2 * step], large + channel_step(step), 1);
      }
      commit_products();
      wait_for_products(sums_, a);
    }
    __syncthreads();
  }

 private:
  float sums_[64] = {};

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }

  // In wgmma's A fragment lane t of a quad holds columns t and t + 4 of 8. A sum over channels may take them in any
  // order, if Q~ and K~ use the same, so lane t takes the neighbours 2 t and 2 t + 1, which one 8-byte read loads.
  __device__ static void split_q(const float* stage, std::uint32_t (&a)[8][4]) {
#pragma unroll
    for (int step = 0; step < kChannels / 8; ++step) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float2 two = *reinterpret_cast<const float2*>(stage + row(r) * kPitchQ + step * 8 + lane() % 4 * 2);
        const SplitNumber left = split(two.x), right = split(two.y);
        a[2 * step][r] = left.large;
        a[2 * step][r + 2] = right.large;
        a[2 * step + 1][r] = left.small;
        a[2 * step + 1][r + 2] = right.small;
      }
    }
  }
  __device__ static void split_k(const float* stage, unsigned char* memory) {
#pragma unroll
    for (int item = static_cast<int>(threadIdx.x); item < 128 * kChannels / 8; item += kThreads) {
      const int own = item % 128, step = item / 128;
      const float4* from = reinterpret_cast<const float4*>(stage + own * kPitchK + step * 8);
      const float4 first = from[0], second = from[1];
      const SplitNumber c0 = split(first.x), c1 = split(first.y), c2 = split(first.z), c3 = split(first.w);
      const SplitNumber c4 = split(second.x), c5 = split(second.y), c6 = split(second.z), c7 = split(second.w);
      const auto write = [&](unsigned char* to, int chunk, uint4 four) {
        *reinterpret_cast<uint4*>(to + swizzled_offset(own, chunk)) = four;
      };
      write(memory, 2 * step, make_uint4(c0.large, c2.large, c4.large, c6.large));
      write(memory, 2 * step + 1, make_uint4(c1.large, c3.large, c5.large, c7.large));
      write(memory + kSplitBytes, 2 * step, make_uint4(c0.small, c2.small, c4.small, c6.small));
      write(memory + kSplitBytes, 2 * step + 1, make_uint4(c1.small, c3.small, c5.small, c7.small));
    }
  }
};

}  // namespace draft::gpu
