// Idea:     a histogram of |S_uv - S~_ij|, S = Q K^T unscaled and S~ a pooled map (eq. 8), in bins of relative width
//           1/256 over the 32 octaves up to a known upper bound.
// Map:      one CTA of 4 warps has 64 queries of one block row and goes through all video key blocks, 64 keys at a
//           time. It counts in a histogram in shared memory, which it adds to the head's at the end. One pooled map a
//           launch: with a second histogram one CTA less fits a multiprocessor, which costs more than computing S
//           again.
// Needs:    sm_80 on; head_dim 64 or 128; bf16 or fp16; q, k in token order, aligned to 16 bytes; any region size.
// Costs:    2 * video^2 * head_dim FLOPs and video^2 additions in shared memory a head.
// Numerics: S in fp32, one rounding for the difference. Counts are integers, so the order of additions does not matter.

#include <bit>

#include "kernels/core/cuda_check.hpp"
#include "kernels/sweep/sweeps.hpp"
#include "kernels/sweep/tiles.cuh"

namespace draft::gpu {
namespace {

constexpr int kDroppedBits = 23 - 8;  // a bin ignores these lowest bits of an fp32 fraction

/// The index of a number's bin among all bins of fp32: exponent and eight fraction bits, rounded up, so that a number
/// on an edge belongs to the bin below it. `bits`: the number's bits; it must be at least 0.
__host__ __device__ int absolute_bin(std::uint32_t bits) {
  return static_cast<int>((bits + ((1U << kDroppedBits) - 1)) >> kDroppedBits);
}
/// The absolute_bin of the histogram's bin 0, so that its last bin is that of `largest`.
__host__ __device__ int first_bin(std::uint32_t largest) {
  const int first = absolute_bin(largest) - (kDeviationBins - 1);
  return first > 0 ? first : 0;
}

template <Element kElement, int kDim>
__global__ void __launch_bounds__(kSweepThreads, 2)
    deviation_kernel(const __grid_constant__ SweepCall call, const __grid_constant__ BlockMap map,
                     const float* __restrict__ pooled, const float* __restrict__ largest,
                     unsigned long long* __restrict__ counts) {
  constexpr int kBytes = kTile * kDim * 2;
  extern __shared__ __align__(256) unsigned char shared[];
  __shared__ int queries[kTile];
  __shared__ SweepTile tiles[kAhead];
  __shared__ SweepWalk<false> walk;
  const std::uint32_t q_tile = shared_address(shared), k_tiles = q_tile + kBytes;
  // 32-bit counts suffice: a CTA counts 64 * video numbers, and video is below 2^26.
  unsigned* bins = reinterpret_cast<unsigned*>(shared + 3 * kBytes);

  const Layout& layout = call.layout;
  const int regions = layout.regions(), tiles_a_row = tiles_a_region(layout), head = static_cast<int>(blockIdx.y);
  const int tile = static_cast<int>(blockIdx.x), region = tile / tiles_a_row, query_tile = tile % tiles_a_row;
  const BlockRows rows = map.rows(region);
  if (query_tile * kTile >= rows.count) return;

  const std::int64_t head_offset = layout.offset(head, 0);
  const std::uint16_t* k_head = static_cast<const std::uint16_t*>(call.k) + head_offset;
  const float* centres = pooled + layout.map_offset(head) + static_cast<std::int64_t>(region) * regions;
  list_queries(rows, query_tile, queries);
  if (warp_id() == 0) {
    walk.begin(map, false, nullptr, nullptr, 0);
    walk.write_next(map, tiles[0]);
    walk.write_next(map, tiles[1]);
  }
  for (int bin = static_cast<int>(threadIdx.x); bin < kDeviationBins; bin += kSweepThreads) bins[bin] = 0;
  __syncthreads();
  copy_rows<kDim>(q_tile, static_cast<const std::uint16_t*>(call.q) + head_offset, queries);
  copy_rows<kDim>(k_tiles, k_head, tiles[0].tokens);
  commit_copies();
  const int own_row = warp_id() * kWarpRows + lane_id() / 4;  // and own_row + 8
  const bool real[2] = {queries[own_row] >= 0, queries[own_row + 8] >= 0};
  const int first = first_bin(__float_as_uint(largest[head]));

  for (int slot = 0, parity = 0;; parity ^= 1) {
    const int next = slot == kAhead - 1 ? 0 : slot + 1, after = next == kAhead - 1 ? 0 : next + 1;
    wait_for_copies();
    __syncthreads();  // this K has arrived, and all warps have read the one before and its list of tokens
    const int keys = tiles[slot].keys, column = tiles[slot].group;
    if (keys == 0) break;
    copy_rows<kDim>(k_tiles + (parity ^ 1) * kBytes, k_head, tiles[next].tokens);
    commit_copies();
    if (warp_id() == 0) walk.write_next(map, tiles[after]);
    slot = next;

    const float centre = centres[column];
    float s[kTile / 8][4];
    multiply_logits<kElement, kDim>(s, q_tile, k_tiles + parity * kBytes);
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!real[i / 2] || n * 8 + (lane_id() & 3) * 2 + (i & 1) >= keys) continue;
        const int bin = absolute_bin(__float_as_uint(fabsf(s[n][i] - centre))) - first;
        atomicAdd(&bins[min(max(bin, 0), kDeviationBins - 1)], 1U);
      }
    }
  }
  // The loop ended behind a barrier that followed all additions to the bins.
  for (int bin = static_cast<int>(threadIdx.x); bin < kDeviationBins; bin += kSweepThreads) {
    if (bins[bin] != 0) atomicAdd(&counts[static_cast<std::int64_t>(head) * kDeviationBins + bin], bins[bin]);
  }
}

}  // namespace

float deviation_edge(float largest, int bin) {
  const auto place = static_cast<std::uint32_t>(first_bin(std::bit_cast<std::uint32_t>(largest)) + bin);
  return std::bit_cast<float>(place << kDroppedBits);
}

void sweep_deviations(const SweepCall& call, const float* pooled, const float* largest, std::uint64_t* counts,
                      cudaStream_t stream) {
  static_assert(sizeof(std::uint64_t) == sizeof(unsigned long long));
  require_valid(call, false);
  require_aligned("deviations: pooled", pooled);
  require_aligned("deviations: largest", largest);
  require_aligned("deviations: counts", counts);
  for_element_and_dim(call, [&]<Element kElement, int kDim>() {
    constexpr int kShared = 3 * kTile * kDim * 2 + kDeviationBins * static_cast<int>(sizeof(unsigned));
    const auto kernel = deviation_kernel<kElement, kDim>;
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared), "cudaFuncSetAttribute");
    const dim3 grid(static_cast<unsigned>(call.layout.regions() * tiles_a_region(call.layout)), call.layout.heads);
    kernel<<<grid, kSweepThreads, kShared, stream>>>(call, BlockMap(call.layout, false), pooled, largest,
                                                     reinterpret_cast<unsigned long long*>(counts));
    check_launch("deviation_kernel");
  });
}

}  // namespace draft::gpu
