#pragma once
// The three producer warps of an attend_wgmma CTA: the scheduler says which block row comes next, the loader has
// the copy engine fetch its Q and the K and V of its blocks, the storer has it write O. Conventions:
// pipeline.cuh.

#include "kernels/attend/wgmma/pipeline.cuh"

namespace draft::gpu {

/// The next work is asked for when as many blocks of the present one are still to be loaded: late, so that nobody
/// holds work while others have none, and early enough for three reads of global memory, one after the other.
inline constexpr int kAskAhead = 8;

/// The works of a CTA, in its order, by a whole warp. Works are head by head, so that all CTAs read one head's K and V,
/// and within a head in the order of the call. Of a CTA by itself the first is its own index and the others come from
/// a counter. A pair's are two block rows of a head, and pairs take them in turn, since all are equally long; where a
/// head has an odd number of block rows, its last one is done by both, to the same bits.
template <bool kPair>
struct Works {
  const WgmmaCall& call;
  int lane;
  int place = static_cast<int>(kPair ? blockIdx.x / 2 : blockIdx.x);
  int works = call.only_again ? *call.again.count : call.works;

  __device__ void advance() {
    if constexpr (kPair) {
      place += static_cast<int>(gridDim.x) / 2;
    } else {
      if (lane == 0) place = static_cast<int>(gridDim.x) + atomicAdd(call.taken, 1);
      place = __shfl_sync(0xffffffffU, place, 0);
    }
  }
  /// The present one, or -1.
  __device__ int index() const {
    if constexpr (kPair) {
      const int pairs = (call.blocks + 1) / 2, head = place / pairs;
      const int row = min(place % pairs * 2 + static_cast<int>(blockIdx.x) % 2, call.blocks - 1);
      return place < call.works / call.blocks * pairs ? head * call.blocks + row : -1;
    } else {
      return place >= works ? -1 : call.only_again ? call.again.works[place] : place;
    }
  }
};

/// Gives out the works.
template <bool kPair>
__device__ inline void schedule(const WgmmaCall& call, PipelineState& state, int lane) {
  Works<kPair> works{call, lane};
  for (int n = 0;; ++n) {
    const Place place(n);
    wait_for_phase(shared_address(&state.work_empty[place.index]), place.parity ^ 1);
    if (n > 0) works.advance();
    Work& work = state.works[place.index];
    const int next = works.index();
    const bool any = next >= 0;
    if (any) {
      const int head = next / call.blocks;
      const int row = call.order == nullptr ? next % call.blocks : call.order[next];
      const int line = head * call.blocks + row;
      const int count = call.counts == nullptr ? call.blocks : call.counts[line];
      int column = lane;
      if (call.columns != nullptr && lane < count) {
        column = call.columns[static_cast<std::int64_t>(line) * call.blocks + lane];
      }
      work.columns[lane] = static_cast<std::uint16_t>(column);
      if (lane == 0) {
        work.head = head;
        work.row = row;
        work.count = count;
        work.index = next;
        work.box = call.grid.box(row);
      }
    } else if (lane == 0) {
      work.count = -1;
    }
    arrive_lanes(state.work_full[place.index]);
    if (!any) return;
  }
}

/// Which of a tile's 128 rows are tokens; by a whole warp, equal in all lanes.
__device__ inline uint4 real_rows(const TileGrid& grid, std::uint32_t shape, int lane) {
  const int map = static_cast<int>(shape & 0xff), columns = static_cast<int>(shape >> 8 & 0xff);
  const int rows = static_cast<int>(shape >> 16);
  if (rows * columns == kTileRows) return make_uint4(~0U, ~0U, ~0U, ~0U);
  return make_uint4(__ballot_sync(0xffffffffU, grid.holds(map, rows, columns, lane)),
                    __ballot_sync(0xffffffffU, grid.holds(map, rows, columns, lane + 32)),
                    __ballot_sync(0xffffffffU, grid.holds(map, rows, columns, lane + 64)),
                    __ballot_sync(0xffffffffU, grid.holds(map, rows, columns, lane + 96)));
}

/// Starts the copy of a tile, a slab at a time; of a pair each CTA the slab of its own number, for both.
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

/// Loads K0, Q, K1, V0, K2, V1, ..., the order in which they are needed.
template <int kDim, bool kPair>
__device__ inline void load(const WgmmaCall& call, PipelineState& state, std::uint32_t q_tiles, int lane) {
  using Sizes = TileSizes<kDim>;
  const std::uint32_t ring_tiles = q_tiles + 2 * Sizes::kTileBytes;
  const std::uint64_t keep = keep_in_l2(), drop = drop_from_l2();
  Ring<Sizes::kStages> ring;
  for (int n = 0;; ++n) {
    const Place place(n);
    wait_for_phase(shared_address(&state.work_full[place.index]), place.parity);
    const Work& work = state.works[place.index];
    const int count = work.count, head = work.head;
    if (count < 0) return;
    const std::uint16_t* list =
        call.columns == nullptr ? nullptr
                                : call.columns + static_cast<std::int64_t>(head * call.blocks + work.row) * call.blocks;
    int column = work.columns[lane];
    for (int j = 0; j <= count; ++j) {
      // This frees the place of the work before, where the scheduler puts the one behind the present.
      if (j == max(count - kAskAhead, 0) && n > 0) arrive_lanes(state.work_empty[place.index ^ 1]);
      if (j < count) {
        if (j % 32 == 0) {  // every lane places one block of the next 32 and fetches one of those behind them
          PackedBox packed{};
          if (j + lane < count) {
            const TileBox box = call.grid.box(column);
            packed = {box.x, box.y, box.z, static_cast<std::uint32_t>(box.map | box.columns << 8 | box.rows << 16)};
          }
          __syncwarp();  // every lane is done with the boxes that these replace
          state.boxes[j / 32 & 1][lane] = packed;
          const int later = j + 32 + lane;
          column = list == nullptr || later >= count ? later : list[later];
          __syncwarp();
        }
        const PackedBox box = state.boxes[j / 32 & 1][j % 32];
        const uint4 real = real_rows(call.grid, box.shape, lane);
        wait_for_phase(shared_address(&state.empty[ring.stage]), ring.parity ^ 1);
        if (lane == 0) {
          state.real[ring.stage] = real;
          load_tile<kDim, kPair>(ring_tiles + ring.stage * Sizes::kTileBytes, &call.k[box.shape & 0xff], box.x, box.y,
                                 box.z, head, state.full[ring.stage], keep);
        }
        ring.advance();
      }
      if (j == 0) {
        wait_for_phase(shared_address(&state.q_empty[place.index]), place.parity ^ 1);
        if (lane == 0) {
          const TileBox box = work.box;
          load_tile<kDim>(q_tiles + place.index * Sizes::kTileBytes, &call.q[box.map], box.x, box.y, box.z, head,
                          state.q_full[place.index], drop);
        }
      } else {
        const PackedBox box = state.boxes[(j - 1) / 32 & 1][(j - 1) % 32];
        wait_for_phase(shared_address(&state.empty[ring.stage]), ring.parity ^ 1);
        if (lane == 0) {
          load_tile<kDim, kPair>(ring_tiles + ring.stage * Sizes::kTileBytes, &call.v[box.shape & 0xff], box.x, box.y,
                                 box.z, head, state.full[ring.stage], keep);
        }
        ring.advance();
      }
    }
  }
}

/// Writes each O as soon as both consumer warpgroups have put their half into Q's tile, then frees the tile.
template <int kDim>
__device__ inline void store(const WgmmaCall& call, PipelineState& state, std::uint32_t q_tiles, int lane) {
  using Sizes = TileSizes<kDim>;
  for (int n = 0;; ++n) {
    const Place place(n);
    wait_for_phase(shared_address(&state.work_full[place.index]), place.parity);
    const int count = state.works[place.index].count, head = state.works[place.index].head;
    const TileBox box = state.works[place.index].box;
    if (count < 0) return;
    arrive_lanes(state.work_empty[place.index]);
    wait_for_phase(shared_address(&state.o_full[place.index]), place.parity);
    if (lane == 0) {
      const std::uint32_t tile = q_tiles + place.index * Sizes::kTileBytes;
#pragma unroll
      for (int slab = 0; slab < Sizes::kSlabs; ++slab) {
        store_box(&call.o[box.map], slab * kSlabChannels, box.x, box.y, box.z, head, tile + slab * kSlabBytes);
      }
      commit_stores();
      wait_for_store_reads();
      arrive(shared_address(&state.q_empty[place.index]));
    }
    __syncwarp();
  }
}

}  // namespace draft::gpu
