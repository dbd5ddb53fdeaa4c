#pragma once
// The keys of a block row, one tile of 64 at a time, for kernels that copy them with cp.async: the token of each row of
// a tile, and one thread's share of the copies.

#include "kernels/core/block_rows.cuh"
#include "kernels/ptx/mma.cuh"

namespace draft::gpu {

inline constexpr int kTileKeys = 64;      // keys of a tile
inline constexpr int kCopyThreads = 128;  // threads that copy a tile
inline constexpr int kTileBits = 4;       // more than the tiles from the one being read to the one being written

/// The token of each row of a tile of keys, so that a copy reads one number a row and does no index arithmetic.
struct KeyTile {
  int tokens[kTileKeys];  // rows past the block's end repeat a token of the block; the kernel gives them weight 0
  int keys;               // rows that are keys; 0: there are no more tiles
  int pooled;             // -1, or the tile's index among the tiles of pooled rows: then `tokens` are regions
};

/// The pooled rows behind a block row's keys. In shared memory, as KeyWalk is.
struct PooledTiles {
  int rows;                  // of the head; 0 without a remainder, and for rows that drop nothing
  const uint2* from[3];      // [tiles of 64]: DroppedBlocks' bits of this block row, and of both edges
  bool ragged;               // the edges' are needed
  uint2 bits[kTileBits][3];  // of tile t in bits[t % kTileBits]: they arrive with the copies of a tile before it

  /// Starts copying a tile's bits. Called by one whole warp.
  __device__ void copy_bits(int tile) {
    const int kind = static_cast<int>(threadIdx.x) % 32;
    if (kind < (ragged ? 3 : 1)) copy_8_async(shared_address(&bits[tile % kTileBits][kind]), from[kind] + tile);
  }
};

/// Iterates over the tiles of keys that a block row attends to. One whole warp calls it. Its state is in shared memory,
/// because the main loop has no registers to spare.
struct KeyWalk {
  const std::uint16_t* columns;  // the list of kept blocks; null: all blocks
  int blocks;                    // its length
  int place;                     // index in the list of the current block
  int start;                     // row of the current block at which the next tile starts
  BlockRows rows;                // tokens of the current block
  std::uint16_t ahead[32];       // the list's entries from place - place % 32 on

  /// Goes to the list's first block. Called by one whole warp, as write_next is.
  __device__ void begin(const BlockMap& map, const std::uint16_t* the_columns, int the_blocks) {
    if (lane() == 0) {
      columns = the_columns;
      blocks = the_blocks;
    }
    go_to(map, 0);
  }

  /// Writes the next tile and advances. Behind the blocks come the tiles of `pooled`; null without a remainder.
  __device__ void write_next(const BlockMap& map, KeyTile& tile, PooledTiles* pooled) {
    const bool any = place < blocks;
    const int pooled_tile = any ? -1 : place - blocks;
    const int pooled_left = any || pooled == nullptr ? 0 : pooled->rows - pooled_tile * kTileKeys;
#pragma unroll
    for (int row = 0; row < kTileKeys; row += 32) {
      const int own = start + row + lane();
      tile.tokens[row + lane()] = any               ? rows.token(own < rows.count ? own : 0)
                                  : pooled_left > 0 ? pooled_tile * kTileKeys + min(row + lane(), pooled_left - 1)
                                                    : 0;
    }
    if (lane() == 0) {
      tile.keys = any ? min(kTileKeys, rows.count - start) : max(min(kTileKeys, pooled_left), 0);
      tile.pooled = pooled_tile;
    }
    if (!any && pooled_left <= 0) return;
    if (!any) pooled->copy_bits(pooled_tile);
    const bool goes_on = any && start + kTileKeys < rows.count;
    __syncwarp();  // all lanes have read the state that changes below
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

/// One thread's share of the copy of a tile of K or V: one 16-byte chunk of each of kPieces rows.
template <int kDim>
struct KeyCopy {
  static constexpr int kChunks = kDim / 8, kStep = kCopyThreads / kChunks, kPieces = kTileKeys / kStep;
  int first, offset;    // row and channel of the first piece
  std::uint32_t place;  // its byte in the tile; kStep is a multiple of 8, so the swizzle is the same for every piece

  __device__ KeyCopy()
      : first(static_cast<int>(threadIdx.x) / kChunks),
        offset(static_cast<int>(threadIdx.x) % kChunks * 8),
        place(chunk_offset<kDim>(first, static_cast<int>(threadIdx.x) % kChunks)) {}
  /// `head`: the head's first element of K or V.
  __device__ void start(int piece, std::uint32_t to, const std::uint16_t* head, const KeyTile& tile) const {
    const std::int64_t token = tile.tokens[first + piece * kStep];
    copy_async(to + place + piece * kStep * kDim * 2, head + token * kDim + offset);
  }
};

}  // namespace draft::gpu
