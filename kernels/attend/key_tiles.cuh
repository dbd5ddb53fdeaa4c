#pragma once
// The keys of a block row, a tile at a time, for kernels whose threads copy them: where each row of a tile stands,
// and one thread's share of the copying.

#include "kernels/core/block_rows.cuh"
#include "kernels/ptx/mma.cuh"

namespace draft::gpu {

inline constexpr int kTileKeys = 64;      // of a tile
inline constexpr int kCopyThreads = 128;  // that copy it together

/// Where the rows of a tile of keys stand, so that a copy needs one number a row and no arithmetic.
struct KeyTile {
  int tokens[kTileKeys];  // behind the block's end a row of it again: such keys get weight 0
  int keys;               // 0: there is no such tile
};

/// The tiles of keys that a block row attends to, one after the other. One warp walks it; where it stands is kept
/// in shared memory, since the loop has no registers to spare.
struct KeyWalk {
  const std::uint16_t* columns;  // the list; null: all blocks
  int blocks;                    // its length
  int place;                     // in the list of the block in hand
  int start;                     // in that block of the next tile's first row
  BlockRows rows;                // of that block
  std::uint16_t ahead[32];       // the list's entries from place - place % 32 on

  /// To be called by one whole warp, as write_next: the list's first block.
  __device__ void begin(const BlockMap& map, const std::uint16_t* the_columns, int the_blocks) {
    if (lane() == 0) {
      columns = the_columns;
      blocks = the_blocks;
    }
    go_to(map, 0);
  }

  /// Writes the next tile's rows and goes on.
  __device__ void write_next(const BlockMap& map, KeyTile& tile) {
    const bool any = place < blocks;
#pragma unroll
    for (int row = 0; row < kTileKeys; row += 32) {
      const int own = start + row + lane();
      tile.tokens[row + lane()] = any ? rows.token(own < rows.count ? own : 0) : 0;
    }
    if (lane() == 0) tile.keys = any ? min(kTileKeys, rows.count - start) : 0;
    if (!any) return;
    const bool goes_on = start + kTileKeys < rows.count;
    __syncwarp();  // every lane has read
    if (!goes_on) {
      go_to(map, place + 1);
    } else if (lane() == 0) {
      start += kTileKeys;
    }
    __syncwarp();
  }

 private:
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ void go_to(const BlockMap& map, int next) {
    __syncwarp();
    if (next % 32 == 0 && next + lane() < blocks) {
      ahead[lane()] = columns == nullptr ? static_cast<std::uint16_t>(next + lane()) : columns[next + lane()];
    }
    __syncwarp();
    if (lane() == 0) {
      place = next;
      start = 0;
      if (next < blocks) rows = map.rows(ahead[next % 32]);
    }
    __syncwarp();
  }
};

/// One thread's share of copying a tile of keys of K or V: kPieces rows, a chunk of each.
template <int kDim>
struct KeyCopy {
  static constexpr int kChunks = kDim / 8, kStep = kCopyThreads / kChunks, kPieces = kTileKeys / kStep;
  int first, offset;    // row and element of the first piece
  std::uint32_t place;  // byte of it in the tile; kStep is a multiple of 8, so that the swizzle repeats

  __device__ KeyCopy()
      : first(static_cast<int>(threadIdx.x) / kChunks),
        offset(static_cast<int>(threadIdx.x) % kChunks * 8),
        place(chunk_offset<kDim>(first, static_cast<int>(threadIdx.x) % kChunks)) {}
  /// `head`: the tensor's part that belongs to the head.
  __device__ void start(int piece, std::uint32_t to, const std::uint16_t* head, const KeyTile& tile) const {
    const std::int64_t token = tile.tokens[first + piece * kStep];
    copy_async(to + place + piece * kStep * kDim * 2, head + token * kDim + offset);
  }
};

}  // namespace draft::gpu
