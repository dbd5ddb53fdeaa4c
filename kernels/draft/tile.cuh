#pragma once
// Shared by the two ways to compute a tile of S~ (product.cuh, product_sm90.cuh): copying pooled rows to shared memory,
// splitting fp32 numbers into two TF32 numbers, and writing the tile to the map.

#include <cstdint>

#include "kernels/ptx/mma.cuh"

namespace draft::gpu {

/// Starts copying channels [first, first + kChannels) of 128 rows, from row `row` on, to shared memory at `to`, kPitch
/// floats a row. `rows` is [count, dim]; what lies outside becomes zeros. Called by a CTA of kThreads threads; the
/// copies belong to the current cp.async group.
template <int kThreads, int kChannels, int kPitch>
__device__ inline void copy_rows(std::uint32_t to, const float* __restrict__ rows, int row, int count, int first,
                                 int dim) {
  constexpr int kVectors = kChannels / 4, kStep = kThreads / kVectors;
  const int own = static_cast<int>(threadIdx.x) / kVectors, channel = static_cast<int>(threadIdx.x) % kVectors * 4;
  int from = (row + own) * dim + first + channel;
  not_ahead(from);
  to += (own * kPitch + channel) * static_cast<int>(sizeof(float));
#pragma unroll
  for (int i = 0; i < 128 / kStep; ++i) {
    const bool there = row + own + i * kStep < count && first + channel < dim;
    copy_async(to + i * kStep * kPitch * static_cast<int>(sizeof(float)), rows + (there ? from + i * kStep * dim : 0),
               there);
  }
}
/// x = large + small with an error of at most 2^-20 |x|; both are cut to TF32's 11 bits. If x is not finite, small is
/// NaN.
struct SplitNumber {
  std::uint32_t large, small;
};
__device__ inline SplitNumber split(float x) {
  constexpr std::uint32_t kTF32 = 0xffffe000U;
  const std::uint32_t large = __float_as_uint(x) & kTF32;
  return {large, __float_as_uint(x - __uint_as_float(large)) & kTF32};
}

/// Floats of a row of store_tile's shared memory, padded: 8-byte accesses of half a warp hit each bank once.
inline constexpr int kTilePitch = 128 + 8;
inline constexpr int kTileBytes = 128 * kTilePitch * static_cast<int>(sizeof(float));

/// Writes a tile to the rows from first_row and the columns from first_column on of map [count, count]. It goes through
/// shared memory, so that a warp writes whole rows: storing from the fragments would write two sectors for each 32
/// bytes. `memory`: kTileBytes of shared memory that is not in use. Called by the whole CTA.
template <typename Product>
__device__ inline void store_tile(const Product& tile, int first_row, int first_column, int count,
                                  float* __restrict__ map, unsigned char* memory) {
  not_ahead(count);
  not_ahead(first_row);
  float* const laid_out = reinterpret_cast<float*>(memory);
#pragma unroll
  for (int r = 0; r < Product::kRows; ++r) {
#pragma unroll
    for (int n = 0; n < Product::kPairs; ++n) {
      *reinterpret_cast<float2*>(laid_out + Product::row(r) * kTilePitch + Product::column(n)) =
          make_float2(tile.at(r, n, 0), tile.at(r, n, 1));
    }
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / 32, pair = static_cast<int>(threadIdx.x) % 32 * 2;
  const bool aligned = count % 2 == 0;  // every row starts at a multiple of 8 bytes, as an 8-byte store needs
  for (int row = warp; row < min(128, count - first_row); row += Product::kThreads / 32) {
    float* to = map + static_cast<std::int64_t>(first_row + row) * count + first_column;
#pragma unroll
    for (int column = pair; column < 128; column += 64) {
      const float2 two = *reinterpret_cast<const float2*>(laid_out + row * kTilePitch + column);
      if (aligned && first_column + column + 1 < count) {
        *reinterpret_cast<float2*>(to + column) = two;
      } else {
        if (first_column + column < count) to[column] = two.x;
        if (first_column + column + 1 < count) to[column + 1] = two.y;
      }
    }
  }
}

}  // namespace draft::gpu
