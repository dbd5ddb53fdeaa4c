#pragma once
// Shared by the sweeps' kernels: 64 queries of one block row against tiles of 64 keys. The tokens of a tile are listed
// two tiles ahead of its use and copied one tile ahead.

#include <cmath>
#include <limits>

#include "kernels/core/block_rows.cuh"
#include "kernels/core/logarithms.hpp"
#include "kernels/ptx/mma.cuh"
#include "kernels/sweep/arguments.hpp"

namespace draft::gpu {

inline constexpr int kTile = 64;  // queries of a CTA, and keys of a tile
inline constexpr int kSweepThreads = 128;
inline constexpr int kWarpRows = kTile / (kSweepThreads / 32);
inline constexpr int kAhead = 3;  // SweepTiles: the current one, the one being copied, and the one being written
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Tiles of queries of the largest region.
__host__ __device__ inline int tiles_a_region(const Layout& layout) {
  const int rows = layout.region_height < layout.height ? layout.region_height : layout.height;
  const int columns = layout.region_width < layout.width ? layout.region_width : layout.width;
  return (rows * columns + kTile - 1) / kTile;
}
/// Columns of a block row: the regions, then all of the text as one.
__host__ __device__ inline int block_columns(const Layout& layout) { return layout.regions() + (layout.text > 0); }

__device__ inline int lane_id() { return static_cast<int>(threadIdx.x) % 32; }
__device__ inline int warp_id() { return static_cast<int>(threadIdx.x) / 32; }

/// A tile of keys. Aligned to 16 bytes, because the compiler reads `keys`, `group` and `ends` in one 16-byte piece:
/// that piece must not reach into a variable that another warp writes, or race detectors report it.
struct alignas(16) SweepTile {
  int tokens[kTile];  // -1 from `keys` on
  int keys;           // 0: there are no more tiles
  int group;          // the block column (regions: text), or the level that first keeps the tile's blocks
  bool ends;          // this is the last tile of a block column
};

/// Iterates over the tiles of all key blocks of a block row, text first. kByLevel: a tile may hold keys of several
/// blocks of one level; otherwise of one block. One warp calls it; its state is in shared memory, because registers do
/// not suffice.
template <bool kByLevel>
struct alignas(16) SweepWalk {
  const std::uint16_t* columns;  // regions in the order of their level; null: rising
  const std::int32_t* ends;      // [levels]: how many of them have at most this level; null: one level
  int levels, blocks;
  int place;  // index of the current block in `columns`; -1: text
  int start;  // row of that block at which the next tile starts
  int group;
  BlockRows rows;

  /// Goes to the first block. Called by one whole warp, as write_next is. `map` must be in token order.
  __device__ void begin(const BlockMap& map, bool with_text, const std::uint16_t* the_columns,
                        const std::int32_t* the_ends, int the_levels) {
    if (lane_id() == 0) {
      columns = the_columns;
      ends = the_ends;
      levels = the_levels;
      blocks = map.regions;
      group = 0;
      go_to(map, with_text && map.tokens > map.text_first ? -1 : 0);
    }
    __syncwarp();
  }

  /// Writes the next tile and advances. After the last key: a tile without keys, and group = levels.
  __device__ void write_next(const BlockMap& map, SweepTile& tile) {
    int filled = 0;
    const int own_group = group;
    while (place < blocks && filled < kTile && group == own_group) {
      const int taken = min(kTile - filled, rows.count - start);
      for (int row = lane_id(); row < taken; row += 32) tile.tokens[filled + row] = rows.token(start + row);
      filled += taken;
      __syncwarp();  // all lanes have read the state that changes below
      if (lane_id() == 0) {
        start += taken;
        if (start == rows.count) go_to(map, place + 1);
      }
      __syncwarp();
      if (!kByLevel) break;
    }
    for (int row = filled + lane_id(); row < kTile; row += 32) tile.tokens[row] = -1;
    if (lane_id() == 0) {
      tile.keys = filled;
      tile.group = own_group;
      tile.ends = start == 0;
    }
  }

 private:
  __device__ void go_to(const BlockMap& map, int next) {
    place = next;
    start = 0;
    if (next >= blocks) {
      group = levels;
    } else if (next < 0) {
      const int text = map.tokens - map.text_first;
      rows = {.first = map.text_first, .count = text, .columns = text, .stride = 0, .reciprocal = 0};
      group = kByLevel ? 0 : blocks;
    } else {
      rows = map.rows(columns == nullptr ? next : columns[next]);
      if (!kByLevel) {
        group = next;
      } else if (ends != nullptr) {
        while (next >= ends[group]) ++group;
      }
    }
  }
};

/// Starts copying the rows of a tile; zeros for token -1. `head`: the head's first element of the tensor.
template <int kDim>
__device__ void copy_rows(std::uint32_t to, const void* head, const int (&tokens)[kTile]) {
  constexpr int kChunks = kDim / 8, kStep = kSweepThreads / kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks, first = static_cast<int>(threadIdx.x) / kChunks;
  const std::uint16_t* own = static_cast<const std::uint16_t*>(head) + chunk * 8;
  // kStep is a multiple of 8, so that the swizzle is the same for every i.
  const std::uint32_t own_to = to + chunk_offset<kDim>(first, chunk);
#pragma unroll
  for (int i = 0; i < kTile / kStep; ++i) {
    const int token = tokens[first + i * kStep];
    copy_async(own_to + i * kStep * kDim * 2, own + static_cast<std::int64_t>(max(token, 0)) * kDim, token >= 0);
  }
}
/// Waits for all groups of copies but the newest.
__device__ inline void wait_for_older_copies() { asm volatile("cp.async.wait_group 1;" ::: "memory"); }

/// Lists the tokens of query tile `tile` of a region; -1 past its end.
__device__ inline void list_queries(const BlockRows& rows, int tile, int (&tokens)[kTile]) {
  const int row = static_cast<int>(threadIdx.x), own = tile * kTile + row;
  if (row < kTile) tokens[row] = own < rows.count ? rows.token(own) : -1;
}

/// S of a warp's 16 queries and 64 keys: s[n][2 half + i] is row lane / 4 + 8 half, key 8 n + 2 (lane % 4) + i.
template <Element kElement, int kDim>
__device__ void multiply_logits(float (&s)[kTile / 8][4], std::uint32_t q_tile, std::uint32_t k_tile) {
  int lane = lane_id();
  not_ahead(lane);
  // Addresses that this lane gives to ldmatrix, for the tile's first 16 rows and channels. The swizzle makes channel
  // 16 d an XOR with 32 d and row 16 n an addition of a constant.
  const std::uint32_t q_row = q_tile + chunk_offset<kDim>(warp_id() * kWarpRows + (lane & 15), lane >> 4);
  const std::uint32_t k_row = k_tile + chunk_offset<kDim>((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1);
#pragma unroll
  for (auto& part : s) part[0] = part[1] = part[2] = part[3] = 0.0F;
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) {
    std::uint32_t a[4];
    load_matrices(a, q_row ^ (d * 32));
#pragma unroll
    for (int n = 0; n < kTile / 16; ++n) {
      std::uint32_t b[4];
      load_matrices(b, (k_row ^ (d * 32)) + n * 16 * kDim * 2);
      multiply_add<kElement>(s[2 * n], a, b[0], b[1]);
      multiply_add<kElement>(s[2 * n + 1], a, b[2], b[3]);
    }
  }
}

/// The largest logit of a row of the tile; the four lanes that hold the row get the same. Call leave_out_padding()
/// first.
__device__ inline float highest_in_row(const float (&s)[kTile / 8][4], int half) {
  float highest = fmaxf(s[0][2 * half], s[0][2 * half + 1]);
#pragma unroll
  for (int n = 1; n < kTile / 8; ++n) highest = fmaxf(highest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
  highest = fmaxf(highest, __shfl_xor_sync(~0U, highest, 1));
  return fmaxf(highest, __shfl_xor_sync(~0U, highest, 2));
}
/// Sets the logits of padding, from `keys` on, to -infinity, so that its weight is 0.
__device__ inline void leave_out_padding(float (&s)[kTile / 8][4], int keys) {
  if (keys == kTile) return;  // uniform over the CTA
#pragma unroll
  for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (n * 8 + (lane_id() & 3) * 2 + (i & 1) >= keys) s[n][i] = -kInfinity;
    }
  }
}

template <typename T>
__device__ T sum_of_quad(T value) {
  value += __shfl_xor_sync(~0U, value, 1);
  return value + __shfl_xor_sync(~0U, value, 2);
}

/// 2^exponent for a whole number of at most 127, exactly; 0 below -126 and for NaN. Running maxima are whole numbers in
/// base 2, so that rescaling a sum to a new maximum rounds nothing.
__device__ inline float power_of_two(float exponent) {
  return exponent >= -126.0F ? __int_as_float((static_cast<int>(exponent) + 127) << 23) : 0.0F;
}
/// The same for doubles: at most 1023, 0 below -1022.
__device__ inline double power_of_two(double exponent) {
  return exponent >= -1022.0 ? __longlong_as_double(static_cast<long long>(static_cast<int>(exponent) + 1023) << 52)
                             : 0.0;
}

/// Calls launch.operator()<element, head_dim>().
template <typename Launch>
void for_element_and_dim(const SweepCall& call, const Launch& launch) {
  const bool short_rows = call.layout.head_dim == 64;
  if (call.element == Element::bfloat16) {
    short_rows ? launch.template operator()<Element::bfloat16, 64>()
               : launch.template operator()<Element::bfloat16, 128>();
  } else {
    short_rows ? launch.template operator()<Element::float16, 64>()
               : launch.template operator()<Element::float16, 128>();
  }
}

}  // namespace draft::gpu
