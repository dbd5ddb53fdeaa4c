#pragma once
// The epilogue of an attend_8bit CTA: each consumer warp writes its 16 rows of O and their log-sum-exp to global
// memory. Conventions: pipeline.cuh.

#include "kernels/attend/wgmma_8bit/mainloop_mma.cuh"

namespace draft::gpu {

/// Where the rows of a work tile stand: its token, or -1 for a row that is none.
class RowPlaces {
 public:
  __device__ RowPlaces(const TileBox& box, int width)
      : first_(box.first),
        columns_(box.columns),
        rows_(box.rows * box.columns),
        width_(width),
        reciprocal_((0xffff + box.columns) / box.columns) {}
  __device__ int operator()(int row) const {
    if (row >= rows_) return -1;
    const int line = row * reciprocal_ >> 16;  // row / columns, exact up to 128 of both
    return first_ + line * width_ + row - line * columns_;
  }

 private:
  int first_, columns_, rows_, width_, reciprocal_;
};

template <Element kElement, bool kRemainder>
__device__ void EightBitConsumer<kElement, kRemainder>::finish(float (&o)[68], EightBitSoftmax& softmax, Slot slot) {
  const WorkTile& tile = state.tiles[slot.index];
  const int lane = lane_of_warp();
  // From global memory, so before what is put aside: that hides the latency.
  const auto* const terms = reinterpret_cast<const RowTerms*>(
      call.operands.q + static_cast<std::int64_t>(tile.head * call.blocks + tile.row) * kQueryBytes + kOperandBytes);
  const float lse_term[2] = {terms->lse_term[first_row() + lane / 4], terms->lse_term[first_row() + 8 + lane / 4]};
  const float v_scale = call.operands.heads[tile.head].v_scale();
  const RowPlaces place(tile.box, call.layout.width);
  add_aside(o, softmax);
  const float total[2] = {o[64], o[66]};  // sums of P
  const float2 shift = softmax.shift();
  float* const lse = call.lse + static_cast<std::int64_t>(tile.head) * call.layout.tokens();
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    inverse[half] = __fdividef(1.0F, total[half] * v_scale);
    const int token = lane % 4 == 0 ? place(first_row() + half * 8 + lane / 4) : -1;
    const float base2 = (half == 0 ? shift.x : shift.y) - EightBitSoftmax::kLogOfUnit;
    const float own = fmaf(base2 + __log2f(total[half]), static_cast<float>(kLn2), lse_term[half]);
    if (token >= 0) lse[token] = own;
  }
  // Through this warp's part of shared memory, so that a token's 256 bytes are written together. Chunks of 16 bytes are
  // permuted by the row, so that eight rows lie in different banks.
  __syncwarp();  // all lanes have read what was put aside
  const auto at = [](int row, int chunk) { return static_cast<std::uint32_t>(row * 256 + ((chunk ^ (row & 7)) << 4)); };
#pragma unroll
  for (int c = 0; c < 8; ++c) {
    const float *left = o + 8 * c, upper = inverse[0], lower = inverse[1];
    store_matrices(aside + at(lane % 16, 2 * c + lane / 16), pack<kElement>(left[0] * upper, left[1] * upper),
                   pack<kElement>(left[2] * lower, left[3] * lower), pack<kElement>(left[4] * upper, left[5] * upper),
                   pack<kElement>(left[6] * lower, left[7] * lower));
  }
  __syncwarp();
  uint4* const out = call.o + call.o_strides.offset(tile.head, 0) / 8;
  const std::uint32_t step = call.o_strides.token_bytes();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = 2 * i + lane / 16, chunk = lane % 16, token = place(first_row() + row);
    const float4 channels = load_4(aside + at(row, chunk));  // bits of eight elements
    if (token >= 0) *reinterpret_cast<float4*>(row_of(out + chunk, step, token)) = channels;
  }
  __syncwarp();  // all lanes have read before the next work tile puts something aside
  arrive_lanes(state.tile_empty[slot.index]);
}

/// A work tile without a key: O is 0, the log-sum-exp -inf.
template <Element kElement, bool kRemainder>
__device__ void EightBitConsumer<kElement, kRemainder>::finish_empty(Slot slot) {
  const int lane = lane_of_warp();
  const WorkTile& tile = state.tiles[slot.index];
  const RowPlaces place(tile.box, call.layout.width);
  uint4* const out = call.o + call.o_strides.offset(tile.head, 0) / 8;
  const std::uint32_t step = call.o_strides.token_bytes();
  for (int row = 0; row < 16; ++row) {
    const int token = place(first_row() + row);
    if (token < 0) break;
    if (lane < 16) *row_of(out + lane, step, token) = make_uint4(0, 0, 0, 0);
    if (lane == 0) call.lse[static_cast<std::int64_t>(tile.head) * call.layout.tokens() + token] = kMinusInfinity;
  }
  arrive_lanes(state.tile_empty[slot.index]);
}

}  // namespace draft::gpu
