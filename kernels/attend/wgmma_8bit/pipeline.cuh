#pragma once
// What the warps of an attend_8bit CTA share: tiles of Q, K and V in shared memory, the work tiles that the tile
// scheduler gives out, and for each of them two barriers between producer and consumer: full and empty.
//
// | what           | full: who arrives       | empty: who arrives           | slots            |
// | -------------- | ----------------------- | ---------------------------- | ---------------- |
// | K and V tiles  | copy engine (load warp) | 8 consumer warps             | a ring of stages |
// | Q tile         | copy engine (load warp) | 8 consumer warps             | 2                |
// | work tile      | tile scheduler's warp   | load warp, 8 consumer warps  | 2                |
//
// As in attend_wgmma (wgmma/pipeline.cuh), but Q leaves shared memory once the consumers have it in registers, and O
// never goes through the copy engine: each warp writes its own rows.
// A stage has 1 KiB behind its tile that no copy writes: eight rows of ones (E4M3). Behind a tile of V they are the
// columns 128 to 135 of P V, which sum P as the tensor cores round it.

#include <cstdint>

#include "kernels/attend/remainder.hpp"
#include "kernels/attend/wgmma/pipeline.cuh"
#include "kernels/attend/wgmma_8bit/operands.hpp"

namespace draft::gpu {

/// What a launch hands to the kernel.
struct EightBitCall {
  Layout layout;
  TileGrid grid;
  int blocks;      // block rows, and block columns, of a head
  int work_tiles;  // heads * blocks
  uint4* o;        // [heads, tokens, 128] of the element type
  Strides o_strides;
  float* lse;  // [heads, tokens]
  BlockLists lists;
  EightBitOperands operands;
  int* next_tile;  // counter of work tiles given out after the first of each CTA
  TileOrder order;
  // With a remainder alone:
  int regions, pooled_tiles;
  DroppedBlocks dropped;
  float whole, narrow, low;  // DroppedBlocks' terms as base-2 logits

  __device__ int tiles_to_do() const { return work_tiles; }
  __device__ int tile_at(int position) const { return order(position); }
};

struct EightBitSizes {
  static constexpr int kOnesBytes = 1024;
  static constexpr int kStageBytes = kOperandBytes + kOnesBytes;
  static_assert(kStageBytes == kQueryBytes);
  static constexpr int kStages = 7;
  static constexpr int kWarpSumBytes = 16 * kTileSide * 4;  // a warp's rows of O in fp32
  static constexpr int kSharedBytes = (2 + kStages) * kStageBytes + kConsumerWarps * kWarpSumBytes;
};

struct EightBitState {
  std::uint64_t full[EightBitSizes::kStages], empty[EightBitSizes::kStages];
  std::uint64_t q_full[2], q_empty[2];
  std::uint64_t tile_full[2], tile_empty[2];
  /// Of a stage that holds K. keys: how many of its rows are keys; kPooled + t: it is tile t of pooled rows.
  struct Keys {
    float step;
    int keys;
  };
  static constexpr int kPooled = 1 << 16;
  alignas(8) Keys keys[EightBitSizes::kStages];
  WorkTile tiles[2];
  // Used by the load warp alone: the next blocks of the list.
  struct Block {
    int column;
    Keys keys;
  };
  Block ahead[2][32];

  __device__ void init() {
    for (int i = 0; i < EightBitSizes::kStages; ++i) {
      barrier_init(shared_address(&full[i]), 1);
      barrier_init(shared_address(&empty[i]), kConsumerWarps);
    }
    for (int i = 0; i < 2; ++i) {
      barrier_init(shared_address(&q_full[i]), 1);
      barrier_init(shared_address(&q_empty[i]), kConsumerWarps);
      barrier_init(shared_address(&tile_full[i]), 32);
      barrier_init(shared_address(&tile_empty[i]), 32 * (1 + kConsumerWarps));
    }
  }
};

}  // namespace draft::gpu
