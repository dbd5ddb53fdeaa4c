#pragma once
// The math side of an attend_wgmma CTA's mainloop: two consumer warpgroups with 64 of a block row's 128 queries each.
// Conventions: pipeline.cuh.

#include "kernels/attend/wgmma/pipeline.cuh"
#include "kernels/attend/wgmma/softmax.cuh"
#include "kernels/ptx/wgmma.cuh"

namespace draft::gpu {

inline constexpr int kGroup = 128;  // threads of a warpgroup
// A CTA: a warpgroup of producers, two of consumers. A launch of 384 threads gives each of them 168 registers; 384 *
// 168 = 128 * 24 + 256 * 240.
inline constexpr int kCtaThreads = 3 * kGroup;
inline constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

/// S = Q K^T of a warpgroup's 64 queries and 128 keys.
template <Element kElement, int kDim>
__device__ void start_scores(float (&s)[64], const std::uint32_t (&q)[kDim / 16][4], std::uint64_t k) {
  begin_products();
#pragma unroll
  for (int d = 0; d < kDim / 16; ++d) multiply_by_rows<kElement>(s, q[d], k + channel_step(d), d > 0 ? 1 : 0);
  commit_products();
}

/// O += P V.
template <Element kElement, int kSums>
__device__ void start_outputs(float (&o)[kSums], const std::uint32_t (&p)[8][4], std::uint64_t v) {
  begin_products();
#pragma unroll
  for (int n = 0; n < kTileRows / 16; ++n) multiply_left<kElement>(o, p[n], v + row_step(n));
  commit_products();
}

/// The consumer warpgroups issue their products alternately, so that one's softmax runs during the other's products.
/// Each has a named barrier at which it waits until the other has issued. Both have the same blocks, so they wait
/// equally often. Group 1 arrives once before its first product, which lets group 0 go first; group 0 waits once more
/// at the end, so that every arrival is waited for.
struct TensorCoreOrder {
  int group;
  __device__ void begin() const {
    if (group == 1) arrive();
  }
  __device__ void wait() const { named_sync(1 + group, 2 * kGroup); }
  __device__ void arrive() const { named_arrive(2 - group, 2 * kGroup); }
  __device__ void end() const {
    if (group == 0) wait();
  }
};

template <Element kElement, int kDim, MaximumTracking kMaximum, bool kPair, bool kRemainder>
struct Consumer {
  using Sizes = TileSizes<kDim>;
  const WgmmaCall& call;
  PipelineState& state;
  std::uint32_t q_tiles;
  TensorCoreOrder tensor_cores;
  int warp, lane;  // warp: 0 to 3 within the warpgroup
  StageRing<Sizes::kStages> ring;

  /// The tile's row of this warp's first query.
  __device__ int first_row() const { return tensor_cores.group * 64 + warp * 16; }
  __device__ std::uint64_t staged(int stage, std::uint32_t leading) const {
    return matrix_descriptor(q_tiles + (2 + stage) * Sizes::kTileBytes, leading, kEightRows);
  }
  /// Waits until the ring's next stage is full; returns the stage.
  __device__ int next_tile() {
    const int stage = ring.stage;
    wait_for_phase(shared_address(&state.full[stage]), ring.parity);
    ring.advance();
    return stage;
  }
  /// Tells the load warp that this warp has read the stage. In a pair the other CTA's copies write this stage too, so
  /// its load warp is told as well.
  __device__ void free_tile(int stage) const {
    __syncwarp();
    const std::uint32_t empty = shared_address(&state.empty[stage]);
    if (lane == 0) arrive(empty);
    if (kPair && lane == 1) arrive_in_cluster(address_in_cluster(empty, static_cast<int>(blockIdx.x) % 2 ^ 1));
  }
  /// Sets the logits of keys that are no tokens to -inf. In a tile of pooled rows those of regions that are not
  /// dropped, and the others get their size's term. Only lane 0 reads what the stage says of its rows, because it is
  /// lane 0 that frees the stage afterwards.
  __device__ void mask(float (&s)[64], int stage, bool last) const {
    int pooled = -1;
    if constexpr (kRemainder) {
      if (lane == 0) pooled = state.pooled_tile[stage];
      pooled = __shfl_sync(0xffffffffU, pooled, 0);
      if (pooled == PipelineState::kWholeBlock) return;
    } else {
      if (!call.partial_blocks && !(last && call.partial_end)) return;
    }
    uint4 rows{};
    if (lane == 0) rows = state.token_rows[stage];
    rows = make_uint4(__shfl_sync(0xffffffffU, rows.x, 0), __shfl_sync(0xffffffffU, rows.y, 0),
                      __shfl_sync(0xffffffffU, rows.z, 0), __shfl_sync(0xffffffffU, rows.w, 0));
    if constexpr (kRemainder) {
      mask_columns<true>(s, rows, lane, pooled >= 0 ? call.dropped.whole : 0.0F);
      if (pooled >= 0 && call.dropped.ragged) add_size_terms(s, pooled);
    } else {
      if ((rows.x & rows.y & rows.z & rows.w) != ~0U) mask_columns<false>(s, rows, lane);
    }
  }
  /// Products of a tile of pooled rows become logits of whole regions.
  __device__ void add_size_terms(float (&s)[64], int pooled_tile) const {
    const DroppedBlocks& dropped = call.dropped;
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      __syncwarp();
      add_to_columns(s, word, reinterpret_cast<const std::uint32_t*>(dropped.narrow_bits)[pooled_tile * 4 + word],
                     dropped.narrow, lane);
      add_to_columns(s, word, reinterpret_cast<const std::uint32_t*>(dropped.low_bits)[pooled_tile * 4 + word],
                     dropped.low, lane);
    }
  }

  /// Waits for the work tile in `slot`; returns its number of tiles of keys, or -1 if there are no more work tiles.
  __device__ int count_at(Slot slot) const {
    wait_for_phase(shared_address(&state.tile_full[slot.index]), slot.parity);
    return key_tiles<kRemainder>(call, __shfl_sync(0xffffffffU, state.tiles[slot.index].count, 0));
  }
  /// Waits for Q and loads this warp's rows into registers, so that the products read only K from shared memory.
  __device__ void load_queries(std::uint32_t (&q)[kDim / 16][4], Slot slot) const {
    wait_for_phase(shared_address(&state.q_full[slot.index]), slot.parity);
    const std::uint32_t tile = q_tiles + slot.index * Sizes::kTileBytes;
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      load_matrices(q[d], tile + swizzled_offset(first_row() + lane % 16, 2 * d + lane / 16));
    }
  }

  /// The first S of a block row, when there is no P V of a previous block row to overlap it with.
  __device__ void first_scores(int count, const std::uint32_t (&q)[kDim / 16][4], float (&s)[64]) {
    const int k_stage = next_tile();
    tensor_cores.wait();
    start_scores<kElement, kDim>(s, q, staged(k_stage, 16));
    tensor_cores.arrive();
    wait_for_products<0>(s);
    mask(s, k_stage, count == 1);
    free_tile(k_stage);
  }

  /// The mainloop of a block row: from its first S to the weights P of its last block; last_outputs() adds that P V.
  /// Stages come in the order in which they were loaded: K1, V0, K2, V1, ...
  __device__ void attend_blocks(int count, const std::uint32_t (&q)[kDim / 16][4], float (&s)[64],
                                std::uint32_t (&p)[8][4], float (&o)[kDim / 2], RowSoftmax<kMaximum>& softmax) {
    softmax.begin(s);
    softmax.weigh(s);
    pack_weights<kElement>(p, s);
    clear(o);
    for (int j = 1; j < count; ++j) {
      const int k_stage = next_tile();
      tensor_cores.wait();
      start_scores<kElement, kDim>(s, q, staged(k_stage, 16));
      const int v_stage = next_tile();
      start_outputs<kElement>(o, p, staged(v_stage, kSlabBytes));
      tensor_cores.arrive();
      wait_for_products<1>(s);
      mask(s, k_stage, j == count - 1);
      free_tile(k_stage);
      softmax.exponents(s);
      // The exponentials do not need O, but waiting here lets ptxas interleave them with the conversions to P.
      wait_for_products(o, p);
      free_tile(v_stage);
      softmax.scale_down(o);
      softmax.weigh(s);
      pack_weights<kElement>(p, s);
      softmax.look_at_sums();
    }
  }

  /// The last P V of a block row, overlapped with the first S of the next one if that has tiles (next_count > 0; else
  /// `q` and `s` are left alone). This V comes before that K in the ring.
  __device__ void last_outputs(int next_count, Slot next, std::uint32_t (&q)[kDim / 16][4], float (&s)[64],
                               const std::uint32_t (&p)[8][4], float (&o)[kDim / 2]) {
    const StageRing<Sizes::kStages> v = ring;
    ring.advance();
    const std::uint32_t v_full = shared_address(&state.full[v.stage]);
    // Each branch is complete: with a condition between a product and its wait, ptxas would serialize the products.
    if (next_count > 0) {
      load_queries(q, next);
      const int k_stage = next_tile();
      tensor_cores.wait();
      start_scores<kElement, kDim>(s, q, staged(k_stage, 16));
      wait_for_phase(v_full, v.parity);
      start_outputs<kElement>(o, p, staged(v.stage, kSlabBytes));
      tensor_cores.arrive();
      wait_for_products<1>(s);
      mask(s, k_stage, next_count == 1);
      free_tile(k_stage);
      wait_for_products(o, p);
    } else {
      wait_for_phase(v_full, v.parity);
      start_outputs<kElement>(o, p, staged(v.stage, kSlabBytes));
      wait_for_products(o, p);
    }
    free_tile(v.stage);
  }

  /// Puts this warp's rows of O where its rows of Q were, for the store warp, and writes their lse. In epilogue.cuh.
  __device__ void hand_over(const float (&o)[kDim / 2], const float (&lse)[2], Slot slot, const WorkTile& tile) const;
  /// Ends a work tile: hands over O and lse, and lists the tile to be recomputed if something overflowed.
  __device__ void finish(float (&o)[kDim / 2], RowSoftmax<kMaximum>& softmax, Slot slot) const {
    const WorkTile& tile = state.tiles[slot.index];
    float lse[2];
    const bool sound = softmax.finish(o, lse);
    hand_over(o, lse, slot, tile);
    if (kMaximum == MaximumTracking::first_block && __any_sync(0xffffffffU, !sound) && lane == 0) {
      call.recompute.add(tile.index);
    }
    arrive_lanes(state.tile_empty[slot.index]);
  }

  __device__ void consume() {
    tensor_cores.begin();
    std::uint32_t q[kDim / 16][4], p[8][4];
    float s[64], o[kDim / 2];
    int n = 0, count = count_at(Slot(0));
    while (count >= 0) {
      if (count == 0) {
        wait_for_phase(shared_address(&state.q_full[Slot(n).index]), Slot(n).parity);
        RowSoftmax<kMaximum> softmax(call.scale);
        clear(o);
        finish(o, softmax, Slot(n));
        count = count_at(Slot(++n));
        continue;
      }
      load_queries(q, Slot(n));
      first_scores(count, q, s);
      do {
        RowSoftmax<kMaximum> softmax(call.scale);
        attend_blocks(count, q, s, p, o, softmax);
        const Slot slot(n);
        count = count_at(Slot(++n));
        last_outputs(count, Slot(n), q, s, p, o);
        softmax.scale_down(o);
        finish(o, softmax, slot);
      } while (count > 0);
    }
    tensor_cores.end();
  }

 private:
  __device__ static void clear(float (&o)[kDim / 2]) {
#pragma unroll
    for (float& x : o) x = 0.0F;
  }
};

}  // namespace draft::gpu
