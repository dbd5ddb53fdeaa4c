#pragma once
// The tile scheduler of an attend_wgmma CTA: which work tile comes next. One producer warp runs it. Conventions:
// pipeline.cuh.

#include "kernels/attend/wgmma/pipeline.cuh"

namespace draft::gpu {

/// The work tiles of a CTA; called by a whole warp. A single CTA's first work tile is at the position of the CTA's
/// index (TileOrder); the positions of the others come from a counter. A pair has two block rows of a head and strides
/// through the list, since all rows of a dense call are equally long. If a head has an odd number of block rows, both
/// CTAs of the last pair compute its last one, to the same bits.
template <bool kPair, typename Call>
struct TileScheduler {
  const Call& call;
  int lane;
  int position = static_cast<int>(kPair ? blockIdx.x / 2 : blockIdx.x);
  int work_tiles = call.tiles_to_do();

  __device__ void advance() {
    if constexpr (kPair) {
      position += static_cast<int>(gridDim.x) / 2;
    } else {
      if (lane == 0) position = static_cast<int>(gridDim.x) + atomicAdd(call.next_tile, 1);
      position = __shfl_sync(0xffffffffU, position, 0);
    }
  }
  /// The current work tile, or -1.
  __device__ int index() const {
    if constexpr (kPair) {
      const int pairs = (call.blocks + 1) / 2, head = position / pairs;
      const int row = min(position % pairs * 2 + static_cast<int>(blockIdx.x) % 2, call.blocks - 1);
      return position < call.work_tiles / call.blocks * pairs ? head * call.blocks + row : -1;
    } else {
      return position >= work_tiles ? -1 : call.tile_at(position);
    }
  }
};

/// Gives out the work tiles until there are none.
template <bool kPair, typename Call, typename State>
__device__ inline void schedule_tiles(const Call& call, State& state, int lane) {
  TileScheduler<kPair, Call> scheduler{call, lane};
  for (int n = 0;; ++n) {
    const Slot slot(n);
    wait_for_phase(shared_address(&state.tile_empty[slot.index]), slot.parity ^ 1);
    if (n > 0) scheduler.advance();
    WorkTile& tile = state.tiles[slot.index];
    const int next = scheduler.index();
    const bool any = next >= 0;
    if (any) {
      const int head = next / call.blocks;
      const int row = call.lists.order == nullptr ? next % call.blocks : call.lists.order[next];
      const int list = head * call.blocks + row;
      const int count = call.lists.counts == nullptr ? call.blocks : call.lists.counts[list];
      int column = lane;
      if (call.lists.columns != nullptr && lane < count) {
        column = call.lists.columns[static_cast<std::int64_t>(list) * call.blocks + lane];
      }
      tile.columns[lane] = static_cast<std::uint16_t>(column);
      if (lane == 0) {
        tile.head = head;
        tile.row = row;
        tile.count = count;
        tile.index = next;
        tile.box = call.grid.box(row);
      }
    } else if (lane == 0) {
      tile.count = -1;
    }
    arrive_lanes(state.tile_full[slot.index]);
    if (!any) return;
  }
}

}  // namespace draft::gpu
