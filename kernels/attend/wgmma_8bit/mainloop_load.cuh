#pragma once
// The load side of an attend_8bit CTA's mainloop: one producer warp has the copy engine load a work tile's Q, and K and
// V of its kept blocks. Conventions: pipeline.cuh.

#include "kernels/attend/wgmma_8bit/pipeline.cuh"

namespace draft::gpu {

/// Loads K0, Q, K1, V0, K2, V1, ...: the order in which the consumers need them.
template <bool kRemainder>
__device__ inline void load_8bit(const EightBitCall& call, EightBitState& state, std::uint32_t q_tiles, int lane) {
  using Sizes = EightBitSizes;
  const std::uint32_t ring_tiles = q_tiles + 2 * Sizes::kStageBytes;
  const std::uint64_t keep = keep_in_l2(), drop = drop_from_l2();
  const EightBitOperands& operands = call.operands;
  StageRing<Sizes::kStages> ring;
  // Lane 0's copy of a tile of K or V.
  const auto copy = [&](const std::uint8_t* from) {
    const std::uint32_t full = shared_address(&state.full[ring.stage]);
    arrive_and_expect(full, kOperandBytes);
    load_bytes(ring_tiles + ring.stage * Sizes::kStageBytes, from, kOperandBytes, full, keep);
  };
  for (int n = 0;; ++n) {
    const Slot slot(n);
    wait_for_phase(shared_address(&state.tile_full[slot.index]), slot.parity);
    const WorkTile& tile = state.tiles[slot.index];
    const int head = tile.head, row = tile.row;
    const int kept = tile.count, count = key_tiles<kRemainder>(call, kept);
    if (count < 0) return;
    const std::int64_t first = static_cast<std::int64_t>(head) * operands.key_tiles;
    const std::uint16_t* list =
        call.lists.columns == nullptr
            ? nullptr
            : call.lists.columns + static_cast<std::int64_t>(head * call.blocks + row) * call.blocks;
    int column = tile.columns[lane];
    for (int j = 0; j <= count; ++j) {
      // Frees the slot of the previous work tile; the scheduler puts the next one there.
      if (j == max(count - kTileLookahead, 0) && n > 0) arrive_lanes(state.tile_empty[slot.index ^ 1]);
      if (j < count) {
        // Every 32 tiles each lane looks up one of the next 32, and reads a column of the 32 after them.
        if (j % 32 == 0) {
          EightBitState::Block block{};
          if (j + lane < count) {
            block.column = j + lane < kept ? column : call.blocks + j + lane - kept;
            if (j + lane < kept) {
              const TileBox box = call.grid.box(column);
              block.keys.keys = box.rows * box.columns;
            } else {
              block.keys.keys = EightBitState::kPooled + j + lane - kept;
            }
            block.keys.step = operands.k_steps[first + block.column];
          }
          __syncwarp();  // all lanes have read the blocks that are overwritten here
          state.ahead[j / 32 & 1][lane] = block;
          const int later = j + 32 + lane;
          column = list == nullptr || later >= kept ? later : list[later];
          __syncwarp();
        }
        const EightBitState::Block block = state.ahead[j / 32 & 1][j % 32];
        wait_for_phase(shared_address(&state.empty[ring.stage]), ring.parity ^ 1);
        if (lane == 0) {
          state.keys[ring.stage] = block.keys;
          copy(operands.k + (first + block.column) * kOperandBytes);
        }
        ring.advance();
      }
      if (j == 0) {
        wait_for_phase(shared_address(&state.q_empty[slot.index]), slot.parity ^ 1);
        if (lane == 0) {
          const std::uint32_t full = shared_address(&state.q_full[slot.index]);
          arrive_and_expect(full, kQueryBytes);
          load_bytes(q_tiles + slot.index * Sizes::kStageBytes,
                     operands.q + static_cast<std::int64_t>(head * call.blocks + row) * kQueryBytes, kQueryBytes, full,
                     drop);
        }
      } else {
        const int of = state.ahead[(j - 1) / 32 & 1][(j - 1) % 32].column;
        wait_for_phase(shared_address(&state.empty[ring.stage]), ring.parity ^ 1);
        if (lane == 0) copy(operands.v + (first + of) * kOperandBytes);
        ring.advance();
      }
    }
  }
}

}  // namespace draft::gpu
