#pragma once
// The math side of an attend_8bit CTA's mainloop: two consumer warpgroups with 64 of a block row's 128 queries each.
// Conventions: pipeline.cuh.

#include "kernels/attend/wgmma/mainloop_mma.cuh"
#include "kernels/attend/wgmma_8bit/pipeline.cuh"
#include "kernels/attend/wgmma_8bit/softmax.cuh"

namespace draft::gpu {

/// Left operands of wgmma: 64 rows of 128 8-bit numbers of a warpgroup.
using LeftOperand = std::uint32_t[4][4];

/// 32 bytes further in every row: the next 32 channels of K, or places of V.
__device__ constexpr std::uint64_t eight_bit_step(int index) { return index * 32 / kDescriptorUnit; }

/// S = Q K^T of a warpgroup's 64 queries and 128 keys, biased (bias_sums).
__device__ inline void start_scores(std::int32_t (&s)[64], const LeftOperand& q, std::uint64_t k, std::uint32_t zero) {
  bias_sums(s, zero);
  begin_products();
#pragma unroll
  for (int d = 0; d < 4; ++d) multiply_int8(s, q[d], k + eight_bit_step(d));
  commit_products();
}
/// O += P V, and behind it the sums of P; O = P V if `fresh`.
__device__ inline void start_outputs(float (&o)[68], const LeftOperand& p, std::uint64_t v, bool fresh) {
  begin_products();
#pragma unroll
  for (int n = 0; n < 4; ++n) multiply_e4m3(o, p[n], v + eight_bit_step(n), n > 0 || !fresh ? 1 : 0);
  commit_products();
}

template <Element kElement, bool kRemainder>
struct EightBitConsumer {
  using Sizes = EightBitSizes;
  const EightBitCall& call;
  EightBitState& state;
  std::uint32_t q_tiles;
  float4* aside;  // this warp's 16 rows of O in fp32, of the blocks before `o`'s: [channel / 8][lane], 8 KiB
  // A warpgroup has its turn until it has its exponents, so that the other one's products run during its exponentials.
  // Products of both at once would take the tensor cores in turns, and then both would wait for exponentials at once.
  TensorCoreOrder turns;
  int warp, lane;      // warp: 0 to 3 within the warpgroup
  std::uint32_t zero;  // bias_sums' 0
  StageRing<Sizes::kStages> ring;
  bool fresh, any_aside;  // o holds nothing yet; something was put aside
  int blocks_in_o;
  float aside_total[2];  // sums of P that belong to `aside`

  /// The hardware's sums keep 13 fraction bits, so that after this many blocks they are put aside in fp32.
  static constexpr int kBlocksInO = 4;

  __device__ int first_row() const { return turns.group * 64 + warp * 16; }
  __device__ std::uint64_t staged(int stage) const {
    return matrix_descriptor(q_tiles + (2 + stage) * Sizes::kStageBytes, 16, kEightRows);
  }
  __device__ int next_tile() {
    const int stage = ring.stage;
    wait_for_phase(shared_address(&state.full[stage]), ring.parity);
    ring.advance();
    return stage;
  }
  __device__ void free_tile(int stage) const { arrive_warp(state.empty[stage], lane); }

  __device__ int count_at(Slot slot) const {
    wait_for_phase(shared_address(&state.tile_full[slot.index]), slot.parity);
    return key_tiles<kRemainder>(call, __shfl_sync(0xffffffffU, state.tiles[slot.index].count, 0));
  }

  /// Waits for Q, loads this warp's rows and the factors of this thread's two into registers, and frees the tile.
  __device__ void load_queries(LeftOperand& q, float (&rows)[2], Slot slot) const {
    wait_for_phase(shared_address(&state.q_full[slot.index]), slot.parity);
    const std::uint32_t tile = q_tiles + slot.index * Sizes::kStageBytes;
#pragma unroll
    for (int d = 0; d < 4; ++d) {
      load_matrices(q[d], tile + swizzled_offset(first_row() + lane % 16, 2 * d + lane / 16));
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rows[half] = load_shared(tile + kOperandBytes + (first_row() + half * 8 + lane / 4) * 4);
    }
    arrive_warp(state.q_empty[slot.index], lane);
  }
  __device__ static float load_shared(std::uint32_t address) {
    float x;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
    return x;
  }

  /// What a stage of K says of its rows. Only lane 0 reads it, because it is lane 0 that frees the stage afterwards.
  __device__ EightBitState::Keys keys_of(int stage) const {
    EightBitState::Keys keys{};
    if (lane == 0) keys = state.keys[stage];
    keys.step = __shfl_sync(0xffffffffU, keys.step, 0);
    keys.keys = __shfl_sync(0xffffffffU, keys.keys, 0);
    return keys;
  }
  /// A block's products become exponents. kFirst: it is the row's first block.
  template <bool kFirst>
  __device__ void exponents(std::int32_t (&s)[64], EightBitState::Keys keys, const WorkTile& tile,
                            EightBitSoftmax& softmax) const {
    if (kRemainder && keys.keys >= EightBitState::kPooled) {
      const int pooled = keys.keys - EightBitState::kPooled;
      const DroppedBlocks& dropped = call.dropped;
      const std::int64_t row = static_cast<std::int64_t>(tile.head) * call.regions + tile.row;
      const auto words = [](const uint4* bits) { return reinterpret_cast<const std::uint32_t*>(bits); };
      softmax.pooled_exponents<kFirst>(
          s, keys.step,
          {words(dropped.bits + row * call.pooled_tiles + pooled), words(dropped.narrow_bits + pooled),
           words(dropped.low_bits + pooled), call.whole, call.narrow, call.low, dropped.ragged},
          lane);
    } else {
      softmax.exponents<kFirst>(s, keys.step, keys.keys, lane);
    }
  }

  /// The first block of a row: its S and its weights P.
  __device__ void first_block(const LeftOperand& q, std::int32_t (&s)[64], LeftOperand& p, const WorkTile& tile,
                              EightBitSoftmax& softmax) {
    const int k_stage = next_tile();
    const EightBitState::Keys keys = keys_of(k_stage);
    turns.wait();
    start_scores(s, q, staged(k_stage), zero);
    wait_for_products<0>(s);
    free_tile(k_stage);
    exponents<true>(s, keys, tile, softmax);
    turns.arrive();
    EightBitSoftmax::weigh(p, s);
    fresh = true;
    any_aside = false;
    blocks_in_o = 0;
  }

  /// A later block: its S and its weights P, beside P V of the block before.
  __device__ void next_block(const LeftOperand& q, std::int32_t (&s)[64], LeftOperand& p, float (&o)[68],
                             const WorkTile& tile, EightBitSoftmax& softmax) {
    const int k_stage = next_tile();
    const EightBitState::Keys keys = keys_of(k_stage);
    turns.wait();
    start_scores(s, q, staged(k_stage), zero);
    const int v_stage = next_tile();
    start_outputs(o, p, staged(v_stage), fresh);
    wait_for_products<1>(s);
    free_tile(k_stage);
    exponents<false>(s, keys, tile, softmax);
    wait_for_products(o, p);
    turns.arrive();
    free_tile(v_stage);
    softmax.scale_down(o);
    EightBitSoftmax::weigh(p, s);
    fresh = false;
    if (++blocks_in_o == kBlocksInO) put_aside(o, softmax);
  }

  /// P V of a row's last block.
  __device__ void last_outputs(const LeftOperand& p, float (&o)[68]) {
    const int v_stage = next_tile();
    start_outputs(o, p, staged(v_stage), fresh);
    wait_for_products(o, p);
    free_tile(v_stage);
  }

  /// Adds to `o` what was put aside, if anything was.
  __device__ void add_aside(float (&o)[68], EightBitSoftmax& softmax) const {
    const float2 factor = softmax.take_factor();
    if (!any_aside) return;
#pragma unroll
    for (int n = 0; n < 16; ++n) {
      const float4 earlier = aside[n * 32 + lane];
      o[4 * n] = fmaf(earlier.x, factor.x, o[4 * n]);
      o[4 * n + 1] = fmaf(earlier.y, factor.x, o[4 * n + 1]);
      o[4 * n + 2] = fmaf(earlier.z, factor.y, o[4 * n + 2]);
      o[4 * n + 3] = fmaf(earlier.w, factor.y, o[4 * n + 3]);
    }
    o[64] = fmaf(aside_total[0], factor.x, o[64]);
    o[66] = fmaf(aside_total[1], factor.y, o[66]);
  }
  /// Puts `o` and what was there before aside.
  __device__ void put_aside(float (&o)[68], EightBitSoftmax& softmax) {
    add_aside(o, softmax);
#pragma unroll
    for (int n = 0; n < 16; ++n) aside[n * 32 + lane] = make_float4(o[4 * n], o[4 * n + 1], o[4 * n + 2], o[4 * n + 3]);
    aside_total[0] = o[64];
    aside_total[1] = o[66];
    any_aside = true;
    fresh = true;
    blocks_in_o = 0;
  }

  /// Ends a work tile: O and log-sum-exp to global memory. In epilogue.cuh.
  __device__ void finish(float (&o)[68], EightBitSoftmax& softmax, Slot slot);
  /// The same for one without a key: O is 0, the log-sum-exp -inf.
  __device__ void finish_empty(Slot slot);

  __device__ void consume() {
    turns.begin();
    LeftOperand q, p;
    std::int32_t s[64];
    float o[68], rows[2];
    for (int n = 0;; ++n) {
      const Slot slot(n);
      const int count = count_at(slot);
      if (count < 0) break;
      load_queries(q, rows, slot);
      if (count == 0) {
        finish_empty(slot);
        continue;
      }
      const WorkTile& tile = state.tiles[slot.index];
      EightBitSoftmax softmax(rows[0], rows[1]);
      first_block(q, s, p, tile, softmax);
      for (int j = 1; j < count; ++j) next_block(q, s, p, o, tile, softmax);
      last_outputs(p, o);
      finish(o, softmax, slot);
    }
    turns.end();
  }
};

}  // namespace draft::gpu
