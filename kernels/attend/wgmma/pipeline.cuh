#pragma once
// What the warps of an attend_wgmma CTA share: tiles of Q, K and V, the works, and the barriers that hand them
// over, in pairs: full and empty.
//
// | what          | filled by              | emptied by                | places           |
// | ------------- | ---------------------- | ------------------------- | ---------------- |
// | K and V tiles | copy engine (loader)   | 8 consumer warps, of a pair 16 | a ring of stages |
// | Q tile        | copy engine (loader)   | storer, with O            | 2                |
// | O, in Q's tile | 8 consumer warps      | storer: it frees Q's tile | 2                |
// | work          | scheduler              | loader, storer, 8 consumer warps | 2         |
//
// A work is one block row of one head. Every role walks the same works, and in each the same blocks, so each knows
// place and parity by counting; a work without blocks still moves its Q and O, so that those never fall out of step.
// The last work, count -1, ends every role; nobody waits for it to be emptied.
// The ring needs two stages at least: a consumer holds K of block j while it waits for V of block j - 1, the next.
//
// A pair is a cluster of two CTAs that go through the same blocks in step, for two block rows: each has the copy
// engine write one slab of every K and V tile into both, which halves what L2 is asked for.

#include <cuda.h>

#include <cstdint>

#include "kernels/attend/attention.hpp"
#include "kernels/ptx/mma.cuh"
#include "kernels/ptx/sm90.cuh"
#include "kernels/attend/wgmma/tile_box.hpp"
#include "kernels/ptx/wgmma_descriptor.hpp"

namespace draft::gpu {

/// The works that have to be done again with Guard::before, found by the kernel itself: a list of its own.
struct Again {
  int* count;  // how many; 0 at first
  int* found;  // [works]: 1 if it is among them; 0 at first
  int* works;  // [works]: the first *count
  __device__ void add(int work) const {
    if (atomicExch(found + work, 1) == 0) works[atomicAdd(count, 1)] = work;
  }
};

/// What a launch hands to the kernel.
struct WgmmaCall {
  CUtensorMap q[kTileMaps], k[kTileMaps], v[kTileMaps], o[kTileMaps];
  TileGrid grid;
  int blocks;  // block rows, and block columns, of a head
  int works;   // heads * blocks
  int tokens;
  bool partial_blocks;  // a block at any place may have fewer than 128 tokens
  bool partial_end;     // the text's last block has: it is the last of every list that holds it
  float scale;
  float* lse;                    // [heads, tokens]
  const std::uint16_t* columns;  // as Attention
  const std::int32_t* counts;
  const std::uint16_t* order;
  int* taken;  // how many works have been given out beside the first of each CTA; not used by pairs
  Again again;
  bool only_again;  // the works are those of `again`, else all
};

inline constexpr int kConsumerWarps = 8;

template <int kDim>
struct TileSizes {
  static constexpr int kSlabs = kDim / kSlabChannels;
  static constexpr int kTileBytes = kSlabs * static_cast<int>(kSlabBytes);
  static constexpr int kStages = kDim == 128 ? 5 : 10;  // of K and V together
  static constexpr int kSharedBytes = (2 + kStages) * kTileBytes;
};

/// One block row of one head.
struct Work {
  int head;
  int row;    // in the head's blocks
  int count;  // kept blocks; -1: there is no more work
  int index;  // in the call's works
  TileBox box;
  std::uint16_t columns[32];  // the first of the list
};

/// Coordinates of a block of keys, and its map, columns and rows in one word.
struct alignas(16) PackedBox {
  int x, y, z;
  std::uint32_t shape;
};

struct PipelineState {
  static constexpr int kMostStages = 10;
  static_assert(TileSizes<64>::kStages <= kMostStages && TileSizes<128>::kStages <= kMostStages);
  std::uint64_t full[kMostStages], empty[kMostStages];
  std::uint64_t q_full[2], q_empty[2], o_full[2];
  std::uint64_t work_full[2], work_empty[2];
  uint4 real[kMostStages];  // of a stage that holds K: which of its 128 rows are tokens
  Work works[2];
  PackedBox boxes[2][32];  // the loader's own

  __device__ void init(int consumer_warps) {
    for (int i = 0; i < kMostStages; ++i) {
      barrier_init(shared_address(&full[i]), 1);
      barrier_init(shared_address(&empty[i]), consumer_warps);
    }
    for (int i = 0; i < 2; ++i) {
      barrier_init(shared_address(&q_full[i]), 1);
      barrier_init(shared_address(&q_empty[i]), 1);
      barrier_init(shared_address(&o_full[i]), kConsumerWarps);
      barrier_init(shared_address(&work_full[i]), 32);
      barrier_init(shared_address(&work_empty[i]), 32 * (2 + kConsumerWarps));
    }
  }
};

/// A place in the ring of K and V tiles.
template <int kStages>
struct Ring {
  int stage = 0;
  std::uint32_t parity = 0;  // of the phase in which the stage is filled; emptied before: parity ^ 1
  __device__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// Where the n-th work of a CTA stands in what has two places: works and Q (O) tiles.
struct Place {
  int index;
  std::uint32_t parity;  // of the phase in which it is filled; emptied before: parity ^ 1
  __device__ explicit Place(int n) : index(n & 1), parity(static_cast<std::uint32_t>(n >> 1 & 1)) {}
};

/// One arrival of the warp, after all its lanes.
__device__ inline void arrive_warp(std::uint64_t& barrier, int lane) {
  __syncwarp();
  if (lane == 0) arrive(shared_address(&barrier));
}

/// An arrival of each lane, where each wrote or read what is handed over: rare enough to cost nothing, and what
/// race detectors, which go by threads, understand.
__device__ inline void arrive_lanes(std::uint64_t& barrier) { arrive(shared_address(&barrier)); }

}  // namespace draft::gpu
