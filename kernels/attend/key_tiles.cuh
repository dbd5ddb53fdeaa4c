#pragma once
// The keys of a block row, one tile of 64 at a time, for kernels that copy them with cp.async: the token of each row of
// a tile, and one thread's share of the copies.

#include <limits>

#include "kernels/attend/remainder.hpp"
#include "kernels/core/block_rows.cuh"
#include "kernels/core/strided.hpp"
#include "kernels/ptx/mma.cuh"

namespace draft::gpu {

inline constexpr int kTileKeys = 64;      // keys of a tile
inline constexpr int kCopyThreads = 128;  // threads that copy a tile
inline constexpr int kTileTerms = 4;      // more than the tiles from the one being read to the one being written
inline constexpr float kNoKey = -std::numeric_limits<float>::infinity();  // added to a logit: weight 0

/// Rows of K or V that tokens, or regions, count from.
struct KeyRows {
  const std::uint16_t* first;
  std::uint32_t bytes;  // from a row to the next
};

/// The token of each row of a tile of keys, so that a copy reads one number a row and does no index arithmetic.
struct KeyTile {
  int tokens[kTileKeys];  // rows past the block's end repeat a token of the block; the kernel gives them weight 0
  /// Rows that are keys; 0: there are no more tiles. Above kTileKeys: `tokens` are regions, of the tile of pooled rows
  /// that pooled_tile() names. One number for both, since the main loop has no register for two.
  int keys;
  KeyRows k, v;  // with a remainder: what `tokens` count from

  __device__ static int pooled_tile(int keys) { return keys - kTileKeys - 1; }
};
inline constexpr int kMostKeys = kTileKeys + (kMostBlocks + kTileKeys - 1) / kTileKeys;  // of KeyTile

/// The pooled rows behind a block row's keys: those of the regions that it drops. In shared memory, as KeyWalk is.
struct PooledTiles {
  int rows;                   // dropped regions; 0 for rows that drop nothing
  KeyRows k, v;               // the head's pooled rows
  KeyRows key_k, key_v;       // the head's keys and values
  const std::uint16_t* list;  // DroppedLists' of this block row
  float whole, narrow, low;   // DroppedLists'
  /// The list's entries of tile t in ahead[t % 2], once they have arrived; copied in pairs.
  alignas(4) std::uint16_t ahead[2][kTileKeys];
  /// What a tile's logits lack, of tile t in terms[t % kTileTerms]; kNoKey past the last region. Read in pairs.
  alignas(8) float terms[kTileTerms][kTileKeys];

  /// Starts copying the list's entries of a tile, which arrive with the copies of the next one. Called by one whole
  /// warp; a lane reads those alone that it has copied.
  __device__ void copy_list(int tile) {
    const int lane = static_cast<int>(threadIdx.x) % 32, entry = tile * kTileKeys + 2 * lane;
    if (entry < rows) copy_4_async(shared_address(&ahead[tile % 2][2 * lane]), list + entry);
  }
  /// Writes the regions and the terms of a tile.
  __device__ void write(int tile, int (&tokens)[kTileKeys]) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* own_terms = terms[tile % kTileTerms];
#pragma unroll
    for (int row = 2 * lane; row < 2 * lane + 2; ++row) {
      const bool is_key = tile * kTileKeys + row < rows;
      const int entry = is_key ? ahead[tile % 2][row] : 0;
      tokens[row] = entry & (kNarrowRegion - 1);
      const float term =
          whole + ((entry & kNarrowRegion) != 0 ? narrow : 0.0F) + ((entry & kLowRegion) != 0 ? low : 0.0F);
      own_terms[row] = is_key ? term : kNoKey;
    }
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
    const int pooled_tile = place - blocks;
    const bool any_pooled = pooled != nullptr && !any && pooled_tile * kTileKeys < pooled->rows;
    if (any_pooled) {
      pooled->write(pooled_tile, tile.tokens);
      pooled->copy_list(pooled_tile + 1);
    } else {
#pragma unroll
      for (int row = 0; row < kTileKeys; row += 32) {
        const int own = start + row + lane();
        tile.tokens[row + lane()] = any ? rows.token(own < rows.count ? own : 0) : 0;
      }
    }
    if (lane() == 0) {
      tile.keys = any ? min(kTileKeys, rows.count - start) : any_pooled ? kTileKeys + 1 + pooled_tile : 0;
      if (pooled != nullptr) {
        tile.k = any ? pooled->key_k : pooled->k;
        tile.v = any ? pooled->key_v : pooled->v;
      }
    }
    if (!any && !any_pooled) return;
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
  __device__ void start(int piece, std::uint32_t to, const KeyRows& rows, const KeyTile& tile) const {
    copy_async(to + place + piece * kStep * kDim * 2,
               row_of(rows.first + offset, rows.bytes, tile.tokens[first + piece * kStep]));
  }
};

}  // namespace draft::gpu
