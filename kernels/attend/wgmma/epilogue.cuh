#pragma once
// The epilogue of an attend_wgmma CTA: consumer warps put O where Q was and write their log-sum-exp; then the store
// warp has TMA write O to global memory. Conventions: pipeline.cuh.

#include "kernels/attend/wgmma/mainloop_mma.cuh"

namespace draft::gpu {

template <Element kElement, int kDim, MaximumTracking kMaximum, bool kPair, bool kRemainder>
__device__ void Consumer<kElement, kDim, kMaximum, kPair, kRemainder>::hand_over(const float (&o)[kDim / 2],
                                                                                 const float (&lse)[2], Slot slot,
                                                                                 const WorkTile& tile) const {
  const std::uint32_t o_tile = q_tiles + slot.index * Sizes::kTileBytes;
#pragma unroll
  for (int c = 0; c < kDim / 16; ++c) {
    store_matrices(o_tile + swizzled_offset(first_row() + lane % 16, 2 * c + lane / 16),
                   pack<kElement>(o[8 * c], o[8 * c + 1]), pack<kElement>(o[8 * c + 2], o[8 * c + 3]),
                   pack<kElement>(o[8 * c + 4], o[8 * c + 5]), pack<kElement>(o[8 * c + 6], o[8 * c + 7]));
  }
  publish_to_copy_engine();
  arrive_warp(state.o_full[slot.index], lane);
  if (lane % 4 != 0) return;
  float* rows = call.lse + static_cast<std::int64_t>(tile.head) * call.tokens;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row() + half * 8 + lane / 4;
    if (call.grid.holds(tile.box.map, tile.box.rows, tile.box.columns, row)) {
      rows[call.grid.token(tile.box, row)] = lse[half];
    }
  }
}

/// The store warp: writes each O once both consumer warpgroups have put their half into Q's tile, then frees the tile.
template <int kDim>
__device__ inline void store_outputs(const WgmmaCall& call, PipelineState& state, std::uint32_t q_tiles, int lane) {
  using Sizes = TileSizes<kDim>;
  for (int n = 0;; ++n) {
    const Slot slot(n);
    wait_for_phase(shared_address(&state.tile_full[slot.index]), slot.parity);
    const int count = state.tiles[slot.index].count, head = state.tiles[slot.index].head;
    const TileBox box = state.tiles[slot.index].box;
    if (count < 0) return;
    arrive_lanes(state.tile_empty[slot.index]);
    wait_for_phase(shared_address(&state.o_full[slot.index]), slot.parity);
    if (lane == 0) {
      const std::uint32_t o_tile = q_tiles + slot.index * Sizes::kTileBytes;
#pragma unroll
      for (int slab = 0; slab < Sizes::kSlabs; ++slab) {
        store_box(&call.o[box.map], slab * kSlabChannels, box.x, box.y, box.z, head, o_tile + slab * kSlabBytes);
      }
      commit_stores();
      wait_for_store_reads();
      arrive(shared_address(&state.q_empty[slot.index]));
    }
    __syncwarp();
  }
}

}  // namespace draft::gpu
