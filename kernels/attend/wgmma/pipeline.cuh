#pragma once
// What the warps of an attend_wgmma CTA share: tiles of Q, K and V in shared memory, the work tiles that the tile
// scheduler gives out, and for each of them two barriers between producer and consumer: full and empty.
//
// | what           | full: who arrives     | empty: who arrives                      | slots            |
// | -------------- | --------------------- | --------------------------------------- | ---------------- |
// | K and V tiles  | TMA (load warp)       | 8 consumer warps, 16 in a pair          | a ring of stages |
// | Q tile         | TMA (load warp)       | store warp, once it has stored O        | 2                |
// | O, in Q's tile | 8 consumer warps      | (none: the store warp frees Q's tile)   | 2                |
// | work tile      | tile scheduler's warp | load warp, store warp, 8 consumer warps | 2                |
//
// A work tile is one block row of one head. Every warp goes through the same work tiles and the same blocks of each, so
// each finds slot and parity by counting. A work tile without blocks still loads Q and stores O, so that the counts
// stay equal. A work tile of count -1 comes last and ends every warp; nobody waits for it to be emptied.
// With a remainder the tiles of pooled K and V go through the same ring, behind those of the row's kept blocks.
// The ring needs two stages at least: a consumer holds K of block j while it waits for V of block j - 1 in the next.
//
// A pair is a cluster of two CTAs that go through the same blocks in lockstep for two block rows. Each CTA's TMA writes
// one slab of every K and V tile into both, so L2 is read half as often.

#include <cuda.h>

#include <cstdint>

#include "kernels/attend/remainder.hpp"
#include "kernels/attend/wgmma/tile_box.hpp"
#include "kernels/attend/wgmma/tile_order.hpp"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/sm90.cuh"
#include "kernels/ptx/wgmma_descriptor.hpp"

namespace draft::gpu {

static_assert(kPooledTile == kTileRows, "a tile of pooled rows goes through the ring as a block does");

/// Work tiles in which a sum overflowed. The first launch lists them, a second one recomputes them.
struct RecomputeList {
  int* count;   // length of the list; 0 at the start
  int* listed;  // [work tiles]: 1 if it is in the list; 0 at the start
  int* tiles;   // [work tiles]: the list is the first *count
  __device__ void add(int tile) const {
    if (atomicExch(listed + tile, 1) == 0) tiles[atomicAdd(count, 1)] = tile;
  }
};

/// What a launch hands to the kernel.
struct WgmmaCall {
  CUtensorMap q[kTileMaps], k[kTileMaps], v[kTileMaps], o[kTileMaps];
  TileGrid grid;
  int blocks;      // block rows, and block columns, of a head
  int work_tiles;  // heads * blocks
  int tokens;
  bool partial_blocks;  // any block may have fewer than 128 tokens
  bool partial_end;     // the text's last block has fewer; in a list it can only be the last entry
  float scale;
  float* lse;        // [heads, tokens]
  BlockLists lists;  // as Attention's
  int* next_tile;    // counter of work tiles given out after the first of each CTA; not used by pairs
  RecomputeList recompute;
  bool only_recompute;  // true: the work tiles are those of `recompute`; false: all, in this order
  TileOrder order;
  // With a remainder alone:
  CUtensorMap pooled_k, pooled_v;
  int regions, pooled_tiles;
  DroppedBlocks dropped;

  /// How many work tiles this launch has, and which is the one at `position` of its order.
  __device__ int tiles_to_do() const { return only_recompute ? *recompute.count : work_tiles; }
  __device__ int tile_at(int position) const { return only_recompute ? recompute.tiles[position] : order(position); }
};

/// A block row's tiles of keys: the `kept` blocks of its list, then with a remainder tiles of pooled rows. A row that
/// keeps every block, as text rows do, has no remainder. -1 (no more work tiles) stays -1.
template <bool kRemainder, typename Call>
__device__ inline int key_tiles(const Call& call, int kept) {
  return kRemainder && kept >= 0 && kept < call.blocks ? kept + call.pooled_tiles : kept;
}

inline constexpr int kConsumerWarps = 8;

/// The load warp lets the scheduler fetch the next work tile when this many blocks of the current one are still to be
/// loaded. Late is good for balance: a CTA should not hold a work tile that an idle one could start. But the
/// scheduler's three dependent reads of global memory must be done before the current tile's loads are.
inline constexpr int kTileLookahead = 8;

template <int kDim>
struct TileSizes {
  static constexpr int kSlabs = kDim / kSlabChannels;
  static constexpr int kTileBytes = kSlabs * static_cast<int>(kSlabBytes);
  static constexpr int kStages = kDim == 128 ? 5 : 10;  // of K and V together
  static constexpr int kSharedBytes = (2 + kStages) * kTileBytes;
};

/// One block row of one head.
struct WorkTile {
  int head;
  int row;    // in the head's blocks
  int count;  // kept blocks; -1: there are no more work tiles
  int index;  // in the call's work tiles
  TileBox box;
  std::uint16_t columns[32];  // the first of the list
};

/// A block of keys: its box's coordinates, and one word of tensor map index, columns and rows (8, 8 and 16 bits).
struct alignas(16) PackedBox {
  int x, y, z;
  std::uint32_t shape;
};

struct PipelineState {
  static constexpr int kMostStages = 10;
  static_assert(TileSizes<64>::kStages <= kMostStages && TileSizes<128>::kStages <= kMostStages);
  std::uint64_t full[kMostStages], empty[kMostStages];
  std::uint64_t q_full[2], q_empty[2], o_full[2];
  std::uint64_t tile_full[2], tile_empty[2];
  // For a stage that holds K: a bit for each row, 1 if it is a token, or with pooled rows a dropped region.
  uint4 token_rows[kMostStages];
  int pooled_tile[kMostStages];  // with a remainder: which tile of pooled rows it is, or one of the two below
  static constexpr int kWholeBlock = -1, kPartialBlock = -2;
  WorkTile tiles[2];
  PackedBox boxes[2][32];  // used by the load warp alone

  __device__ void init(int consumer_warps) {
    for (int i = 0; i < kMostStages; ++i) {
      barrier_init(shared_address(&full[i]), 1);
      barrier_init(shared_address(&empty[i]), consumer_warps);
    }
    for (int i = 0; i < 2; ++i) {
      barrier_init(shared_address(&q_full[i]), 1);
      barrier_init(shared_address(&q_empty[i]), 1);
      barrier_init(shared_address(&o_full[i]), kConsumerWarps);
      barrier_init(shared_address(&tile_full[i]), 32);
      barrier_init(shared_address(&tile_empty[i]), 32 * (2 + kConsumerWarps));
    }
  }
};

/// The next stage of the ring of K and V tiles.
template <int kStages>
struct StageRing {
  int stage = 0;
  std::uint32_t parity = 0;  // of the barrier's phase that ends when the stage is full; empty: parity ^ 1
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// The slot of a CTA's n-th work tile, and of its Q (O) tile: there are two.
struct Slot {
  int index;
  std::uint32_t parity;  // of the barrier's phase that ends when the slot is full; empty: parity ^ 1
  __device__ explicit Slot(int n) : index(n & 1), parity(static_cast<std::uint32_t>(n >> 1 & 1)) {}
};

/// One arrival of the warp, after all its lanes.
__device__ inline void arrive_warp(std::uint64_t& barrier, int lane) {
  __syncwarp();
  if (lane == 0) arrive(shared_address(&barrier));
}

/// Every lane arrives, since every lane wrote or read the data. One arrival of the warp would do, but compute-sanitizer
/// tracks single threads and would report a race. Once a work tile it costs nothing.
__device__ inline void arrive_lanes(std::uint64_t& barrier) { arrive(shared_address(&barrier)); }

}  // namespace draft::gpu
