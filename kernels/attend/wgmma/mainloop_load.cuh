#pragma once
// The load side of an attend_wgmma CTA's mainloop: one producer warp has TMA load a work tile's Q, and K and V of its
// kept blocks. Conventions: pipeline.cuh.

#include "kernels/attend/wgmma/pipeline.cuh"

namespace draft::gpu {

/// A bit for each of a tile's 128 rows: 1 if it is a token. Called by a whole warp; all lanes get the same result.
__device__ inline uint4 token_rows(const TileGrid& grid, std::uint32_t shape, int lane) {
  const int map = static_cast<int>(shape & 0xff), columns = static_cast<int>(shape >> 8 & 0xff);
  const int rows = static_cast<int>(shape >> 16);
  if (rows * columns == kTileRows) return make_uint4(~0U, ~0U, ~0U, ~0U);
  return make_uint4(__ballot_sync(0xffffffffU, grid.holds(map, rows, columns, lane)),
                    __ballot_sync(0xffffffffU, grid.holds(map, rows, columns, lane + 32)),
                    __ballot_sync(0xffffffffU, grid.holds(map, rows, columns, lane + 64)),
                    __ballot_sync(0xffffffffU, grid.holds(map, rows, columns, lane + 96)));
}

/// Starts the copy of a tile, one slab of 64 channels at a time. In a pair each CTA copies one slab into both CTAs.
template <int kDim, bool kPair = false>
__device__ inline void load_tile(std::uint32_t to, const CUtensorMap* map, int x, int y, int z, int head,
                                 std::uint64_t& full, std::uint64_t policy) {
  const std::uint32_t barrier = shared_address(&full);
  arrive_and_expect(barrier, TileSizes<kDim>::kTileBytes);
  if constexpr (kPair) {
    static_assert(TileSizes<kDim>::kSlabs == 2);
    const int slab = static_cast<int>(blockIdx.x) % 2;
    load_box_for_pair(to + slab * kSlabBytes, map, slab * kSlabChannels, x, y, z, head, barrier, policy);
  } else {
#pragma unroll
    for (int slab = 0; slab < TileSizes<kDim>::kSlabs; ++slab) {
      load_box(to + slab * kSlabBytes, map, slab * kSlabChannels, x, y, z, head, barrier, policy);
    }
  }
}

/// Loads K0, Q, K1, V0, K2, V1, ...: the order in which the consumers need them.
template <int kDim, bool kPair, bool kRemainder>
__device__ inline void load(const WgmmaCall& call, PipelineState& state, std::uint32_t q_tiles, int lane) {
  using Sizes = TileSizes<kDim>;
  const std::uint32_t ring_tiles = q_tiles + 2 * Sizes::kTileBytes;
  const std::uint64_t keep = keep_in_l2(), drop = drop_from_l2();
  StageRing<Sizes::kStages> ring;
  for (int n = 0;; ++n) {
    const Slot slot(n);
    wait_for_phase(shared_address(&state.tile_full[slot.index]), slot.parity);
    const WorkTile& tile = state.tiles[slot.index];
    const int head = tile.head;
    const int kept = tile.count, count = key_tiles<kRemainder>(call, kept);
    if (count < 0) return;
    const uint4* dropped =
        kRemainder
            ? call.dropped.bits + static_cast<std::int64_t>(head * call.regions + tile.row) * call.pooled_tiles - kept
            : nullptr;
    const std::uint16_t* list =
        call.lists.columns == nullptr
            ? nullptr
            : call.lists.columns + static_cast<std::int64_t>(head * call.blocks + tile.row) * call.blocks;
    int column = tile.columns[lane];
    for (int j = 0; j <= count; ++j) {
      // Frees the slot of the previous work tile; the scheduler puts the next one there.
      if (j == max(count - kTileLookahead, 0) && n > 0) arrive_lanes(state.tile_empty[slot.index ^ 1]);
      if (j < count) {
        // Every 32 blocks each lane computes the box of one of the next 32, and reads a column of the 32 after them.
        if (j % 32 == 0 && (!kRemainder || j < kept)) {
          PackedBox packed{};
          if (j + lane < kept) {
            const TileBox box = call.grid.box(column);
            packed = {box.x, box.y, box.z, static_cast<std::uint32_t>(box.map | box.columns << 8 | box.rows << 16)};
          }
          __syncwarp();  // all lanes have read the boxes that are overwritten here
          state.boxes[j / 32 & 1][lane] = packed;
          const int later = j + 32 + lane;
          column = list == nullptr || later >= kept ? later : list[later];
          __syncwarp();
        }
        if (kRemainder && j >= kept) {
          wait_for_phase(shared_address(&state.empty[ring.stage]), ring.parity ^ 1);
          if (lane == 0) {
            state.token_rows[ring.stage] = dropped[j];
            state.pooled_tile[ring.stage] = j - kept;
            load_tile<kDim>(ring_tiles + ring.stage * Sizes::kTileBytes, &call.pooled_k, (j - kept) * kPooledTile, 0, 0,
                            head, state.full[ring.stage], keep);
          }
        } else {
          const PackedBox box = state.boxes[j / 32 & 1][j % 32];
          const uint4 rows = token_rows(call.grid, box.shape, lane);
          wait_for_phase(shared_address(&state.empty[ring.stage]), ring.parity ^ 1);
          if (lane == 0) {
            state.token_rows[ring.stage] = rows;
            if constexpr (kRemainder) {
              const bool whole = (rows.x & rows.y & rows.z & rows.w) == ~0U;
              state.pooled_tile[ring.stage] = whole ? PipelineState::kWholeBlock : PipelineState::kPartialBlock;
            }
            load_tile<kDim, kPair>(ring_tiles + ring.stage * Sizes::kTileBytes, &call.k[box.shape & 0xff], box.x, box.y,
                                   box.z, head, state.full[ring.stage], keep);
          }
        }
        ring.advance();
      }
      if (j == 0) {
        wait_for_phase(shared_address(&state.q_empty[slot.index]), slot.parity ^ 1);
        if (lane == 0) {
          const TileBox box = tile.box;
          load_tile<kDim>(q_tiles + slot.index * Sizes::kTileBytes, &call.q[box.map], box.x, box.y, box.z, head,
                          state.q_full[slot.index], drop);
        }
      } else {
        wait_for_phase(shared_address(&state.empty[ring.stage]), ring.parity ^ 1);
        if (kRemainder && j > kept) {
          if (lane == 0) {
            load_tile<kDim>(ring_tiles + ring.stage * Sizes::kTileBytes, &call.pooled_v, (j - 1 - kept) * kPooledTile,
                            0, 0, head, state.full[ring.stage], keep);
          }
        } else {
          const PackedBox box = state.boxes[(j - 1) / 32 & 1][(j - 1) % 32];
          if (lane == 0) {
            load_tile<kDim, kPair>(ring_tiles + ring.stage * Sizes::kTileBytes, &call.v[box.shape & 0xff], box.x, box.y,
                                   box.z, head, state.full[ring.stage], keep);
          }
        }
        ring.advance();
      }
    }
  }
}

}  // namespace draft::gpu
