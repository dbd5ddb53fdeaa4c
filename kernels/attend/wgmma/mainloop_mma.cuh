#pragma once
// The two consumer warpgroups of an attend_wgmma CTA: 64 of a block row's 128 queries each, block after block.
// Conventions: pipeline.cuh.

#include "kernels/attend/row_softmax.cuh"
#include "kernels/ptx/wgmma.cuh"
#include "kernels/attend/wgmma/pipeline.cuh"

namespace draft::gpu {

inline constexpr int kGroup = 128;  // threads of a warpgroup

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

/// The two consumer warpgroups' turns at the tensor cores. Each has a named barrier: its owner waits there for the
/// other group to pass. Both have the same blocks and so as many turns. The second group passes once before it
/// begins, and the first waits once more after its end, so every arrival is met.
struct TensorCoreTurns {
  int group;
  __device__ void begin() const {
    if (group == 1) pass();
  }
  __device__ void wait() const { named_sync(1 + group, 2 * kGroup); }
  __device__ void pass() const { named_arrive(2 - group, 2 * kGroup); }
  __device__ void end() const {
    if (group == 0) wait();
  }
};

template <Element kElement, int kDim, Guard kGuard, bool kPair>
struct Consumer {
  using Sizes = TileSizes<kDim>;
  const WgmmaCall& call;
  PipelineState& state;
  std::uint32_t q_tiles;
  TensorCoreTurns turns;
  int warp, lane;  // warp: of the group's four
  Ring<Sizes::kStages> ring;

  __device__ int first_row() const { return turns.group * 64 + warp * 16; }  // of this warp, in the tile
  __device__ std::uint64_t staged(int stage, std::uint32_t leading) const {
    return matrix_descriptor(q_tiles + (2 + stage) * Sizes::kTileBytes, leading, kEightRows);
  }
  /// Waits for the ring's next tile and gives its stage.
  __device__ int next_tile() {
    const int stage = ring.stage;
    wait_for_phase(shared_address(&state.full[stage]), ring.parity);
    ring.advance();
    return stage;
  }
  /// Of a pair, the other CTA too waits for this one's warps: its copies fill both.
  __device__ void free_tile(int stage) const {
    __syncwarp();
    const std::uint32_t empty = shared_address(&state.empty[stage]);
    if (lane == 0) arrive(empty);
    if (kPair && lane == 1) arrive_in_cluster(address_in_cluster(empty, static_cast<int>(blockIdx.x) % 2 ^ 1));
  }
  /// Gives -inf to the logits of what is no token. One lane reads which rows are, the one that frees the stage.
  __device__ void mask(float (&s)[64], int stage, bool last) const {
    if (!call.partial_blocks && !(last && call.partial_end)) return;
    uint4 real{};
    if (lane == 0) real = state.real[stage];
    real = make_uint4(__shfl_sync(0xffffffffU, real.x, 0), __shfl_sync(0xffffffffU, real.y, 0),
                      __shfl_sync(0xffffffffU, real.z, 0), __shfl_sync(0xffffffffU, real.w, 0));
    if ((real.x & real.y & real.z & real.w) != ~0U) mask_columns(s, real, lane);
  }

  /// The count of the work at `place`, once it is there; -1: there is no more work.
  __device__ int count_at(Place place) const {
    wait_for_phase(shared_address(&state.work_full[place.index]), place.parity);
    return __shfl_sync(0xffffffffU, state.works[place.index].count, 0);
  }
  /// This warp's rows of Q, once they are there: the products then read K alone from shared memory.
  __device__ void load_queries(std::uint32_t (&q)[kDim / 16][4], Place place) const {
    wait_for_phase(shared_address(&state.q_full[place.index]), place.parity);
    const std::uint32_t tile = q_tiles + place.index * Sizes::kTileBytes;
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      load_matrices(q[d], tile + swizzled_offset(first_row() + lane % 16, 2 * d + lane / 16));
    }
  }

  /// The first S of a block row of `count` blocks that follows none with blocks: nothing else is multiplied meanwhile.
  __device__ void first_scores(int count, const std::uint32_t (&q)[kDim / 16][4], float (&s)[64]) {
    const int k_stage = next_tile();
    turns.wait();
    start_scores<kElement, kDim>(s, q, staged(k_stage, 16));
    turns.pass();
    wait_for_products<0>(s);
    mask(s, k_stage, count == 1);
    free_tile(k_stage);
  }

  /// From the first S of a block row to the weights of its last block, which O still lacks. Tiles are waited for in the
  /// ring's order: K1, V0, K2, V1, ...
  __device__ void attend_blocks(int count, const std::uint32_t (&q)[kDim / 16][4], float (&s)[64],
                                std::uint32_t (&p)[8][4], float (&o)[kDim / 2], RowSoftmax<kGuard>& softmax) {
    softmax.begin(s);
    softmax.weigh(s);
    pack_weights<kElement>(p, s);
    clear(o);
    for (int j = 1; j < count; ++j) {
      const int k_stage = next_tile();
      turns.wait();
      start_scores<kElement, kDim>(s, q, staged(k_stage, 16));
      const int v_stage = next_tile();
      start_outputs<kElement>(o, p, staged(v_stage, kSlabBytes));
      turns.pass();
      wait_for_products<1>(s);
      mask(s, k_stage, j == count - 1);
      free_tile(k_stage);
      softmax.exponents(s);
      // Before the exponentials, although they need no O: then the conversions to P go in between them.
      wait_for_products(o, p);
      free_tile(v_stage);
      softmax.scale_down(o);
      softmax.weigh(s);
      pack_weights<kElement>(p, s);
      softmax.look_at_sums();
    }
  }

  /// The last P V of a block row, beside the first S of the next one if that has blocks (next_count > 0; else `q` and
  /// `s` stay as they are). The ring then holds this V before that K.
  __device__ void last_outputs(int next_count, Place next, std::uint32_t (&q)[kDim / 16][4], float (&s)[64],
                               const std::uint32_t (&p)[8][4], float (&o)[kDim / 2]) {
    const Ring<Sizes::kStages> v = ring;
    ring.advance();
    const std::uint32_t v_full = shared_address(&state.full[v.stage]);
    // Two ways to the end: a condition between a product and its wait would make ptxas wait for each.
    if (next_count > 0) {
      load_queries(q, next);
      const int k_stage = next_tile();
      turns.wait();
      start_scores<kElement, kDim>(s, q, staged(k_stage, 16));
      wait_for_phase(v_full, v.parity);
      start_outputs<kElement>(o, p, staged(v.stage, kSlabBytes));
      turns.pass();
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

  /// Puts this warp's rows of O where its rows of Q were, for the storer, and writes their lse.
  __device__ void hand_over(const float (&o)[kDim / 2], const float (&lse)[2], Place place, const Work& work) const {
    const std::uint32_t tile = q_tiles + place.index * Sizes::kTileBytes;
#pragma unroll
    for (int c = 0; c < kDim / 16; ++c) {
      store_matrices(tile + swizzled_offset(first_row() + lane % 16, 2 * c + lane / 16),
                     pack<kElement>(o[8 * c], o[8 * c + 1]), pack<kElement>(o[8 * c + 2], o[8 * c + 3]),
                     pack<kElement>(o[8 * c + 4], o[8 * c + 5]), pack<kElement>(o[8 * c + 6], o[8 * c + 7]));
    }
    publish_to_copy_engine();
    arrive_warp(state.o_full[place.index], lane);
    if (lane % 4 != 0) return;
    float* rows = call.lse + static_cast<std::int64_t>(work.head) * call.tokens;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = first_row() + half * 8 + lane / 4;
      if (call.grid.holds(work.box.map, work.box.rows, work.box.columns, row)) {
        rows[call.grid.token(work.box, row)] = lse[half];
      }
    }
  }

  /// Ends a work: its O and log-sum-exp.
  __device__ void finish(float (&o)[kDim / 2], RowSoftmax<kGuard>& softmax, Place place) const {
    const Work& work = state.works[place.index];
    float lse[2];
    const bool sound = softmax.finish(o, lse);
    hand_over(o, lse, place, work);
    if (kGuard == Guard::after && __any_sync(0xffffffffU, !sound) && lane == 0) call.again.add(work.index);
    arrive_lanes(state.work_empty[place.index]);
  }

  __device__ void consume() {
    turns.begin();
    std::uint32_t q[kDim / 16][4], p[8][4];
    float s[64], o[kDim / 2];
    int n = 0, count = count_at(Place(0));
    while (count >= 0) {
      if (count == 0) {
        wait_for_phase(shared_address(&state.q_full[Place(n).index]), Place(n).parity);
        RowSoftmax<kGuard> softmax(call.scale);
        clear(o);
        finish(o, softmax, Place(n));
        count = count_at(Place(++n));
        continue;
      }
      load_queries(q, Place(n));
      first_scores(count, q, s);
      do {
        RowSoftmax<kGuard> softmax(call.scale);
        attend_blocks(count, q, s, p, o, softmax);
        const Place place(n);
        count = count_at(Place(++n));
        last_outputs(count, Place(n), q, s, p, o);
        softmax.scale_down(o);
        finish(o, softmax, place);
      } while (count > 0);
    }
    turns.end();
  }

 private:
  __device__ static void clear(float (&o)[kDim / 2]) {
#pragma unroll
    for (float& x : o) x = 0.0F;
  }
};

}  // namespace draft::gpu
