// Idea:     kept[i, j] = score > threshold, or score = threshold and fewer than `kept` such entries come before it
//           (of the head, or of the row); then each row's kept columns as a compact list, and the rows longest first,
//           so that attention's longest rows start first.
// Map:      write_rows: one warp for each block row; ballots give each lane the bits of 32 neighbouring columns.
//           order: four threads for each row count the rows that come before it.
// Needs:    what find_thresholds left; at most kMostBlocks blocks; sm_80 on.
// Costs:    reads 4 * heads * regions^2 bytes once; writes 2 bytes a kept block, 6 bytes a block row, and 1 byte an
//           entry if the mask is asked for. blocks^2 comparisons a head for the order.
// Numerics: integers in a fixed order. A row that keeps no video block lists only the text columns; without text its
//           count is 0.

#include <cmath>

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/draft/draft.hpp"
#include "kernels/draft/selection.cuh"

namespace draft::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kOrderThreads = 256;

__device__ inline int lane() { return static_cast<int>(threadIdx.x) % 32; }
/// The block row of this warp.
__device__ inline int warp_row() { return static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32; }

__device__ inline std::uint32_t sum_of_warp(std::uint32_t value) { return __reduce_add_sync(~0U, value); }

/// Ties of the head in the rows before `row`.
__device__ inline std::uint32_t ties_before(const std::uint32_t* head_ties, int row) {
  std::uint32_t ties = 0;
  for (int before = lane(); before < row; before += 32) ties += head_ties[before];
  return sum_of_warp(ties);
}

/// Tests up to 1,024 entries of a row with `meets`. Bit b of lane l's result is the test of entry 32 l + b; bits from
/// `count` on are 0.
template <typename Meets>
__device__ inline unsigned bits_of_columns(const float* __restrict__ row, int count, Meets meets) {
  unsigned own = 0;
  float loaded[32];  // 32 loads in flight hide the latency
  const float* from = row + lane();
  const int left = count - lane();
#pragma unroll
  for (int i = 0; i < 32; ++i) loaded[i] = i * 32 < left ? from[i * 32] : -INFINITY;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const unsigned bits = __ballot_sync(~0U, meets(loaded[i]));
    if (lane() == i) own = bits;
  }
  const int there = count - 32 * lane();  // clear bits from `count` on: -infinity, loaded there, may meet the test
  return there >= 32 ? own : there <= 0 ? 0U : own & ((1U << there) - 1U);
}

/// Sum over the lanes before this one.
__device__ inline int sum_before(int value) {
  int through = value;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const int other = __shfl_up_sync(~0U, through, distance);
    if (lane() >= distance) through += other;
  }
  return through - value;
}

/// Bits of kept columns, laid out as in bits_of_columns. `ties` is the number of ties before these columns; it is
/// increased by the ties among them.
__device__ inline unsigned kept_bits(const float* __restrict__ row, int count, Threshold threshold,
                                     std::uint32_t& ties) {
  const float lowest = score_of(threshold.key);
  if (threshold.kept == threshold.ties) {
    return bits_of_columns(row, count, [=](float score) { return score >= lowest; });
  }
  const unsigned above = bits_of_columns(row, count, [=](float score) { return score > lowest; });
  unsigned tied = bits_of_columns(row, count, [=](float score) { return score == lowest; });
  const int own = __popc(tied);
  const int before = static_cast<int>(ties) + sum_before(own);
  ties += static_cast<std::uint32_t>(__reduce_add_sync(~0U, own));
  for (int kept = own; kept > 0 && before + kept > static_cast<int>(threshold.kept); --kept) {
    tied &= ~(1U << (31 - __clz(static_cast<int>(tied))));  // drop the last tie
  }
  return above | tied;
}

/// Writes a video row's kept columns and, if `mask` is not null, its row of the mask; returns the number of kept
/// columns.
__device__ inline int write_row(const float* __restrict__ row, int regions, Threshold threshold, std::uint32_t ties,
                                std::uint16_t* __restrict__ columns, std::uint8_t* __restrict__ mask) {
  int kept = 0;
  for (int first = 0; first < regions; first += 1024) {
    const int count = min(regions - first, 1024);
    const unsigned bits = kept_bits(row + first, count, threshold, ties);
    std::uint16_t* to = columns + kept + sum_before(__popc(bits));
    for (unsigned rest = bits; rest != 0; rest &= rest - 1) {
      *to++ = static_cast<std::uint16_t>(first + 32 * lane() + __ffs(static_cast<int>(rest)) - 1);
    }
    if (mask != nullptr) {
      for (int step = 0; step * 32 < count; ++step) {
        const unsigned word = __shfl_sync(~0U, bits, step);
        if (step * 32 + lane() < count) mask[first + step * 32 + lane()] = word >> lane() & 1U;
      }
    }
    kept += static_cast<int>(__reduce_add_sync(~0U, __popc(bits)));
  }
  return kept;
}

__global__ void __launch_bounds__(kThreads, 4)
    write_rows_kernel(int regions, int blocks, bool by_row, const float* __restrict__ scores,
                      const Threshold* __restrict__ thresholds, const std::uint32_t* __restrict__ row_ties,
                      BlockLists lists) {
  const int row = warp_row(), head = static_cast<int>(blockIdx.y);
  if (row >= blocks) return;
  const std::int64_t list = static_cast<std::int64_t>(head) * blocks + row;
  std::uint16_t* columns = lists.columns + list * blocks;

  int kept = 0;
  if (row < regions) {
    const Threshold threshold = thresholds[by_row ? head * regions + row : head];
    const std::int64_t first_entry = (static_cast<std::int64_t>(head) * regions + row) * regions;
    const bool all_ties = threshold.kept == threshold.ties;
    const std::uint32_t ties = by_row || all_ties ? 0 : ties_before(row_ties + head * regions, row);
    kept = write_row(scores + first_entry, regions, threshold, ties, columns,
                     lists.mask == nullptr ? nullptr : lists.mask + first_entry);
  }
  // A text row keeps every block; a video row keeps its columns from above and all text blocks.
  const int from = row < regions ? regions : 0;
  for (int block = from + lane(); block < blocks; block += 32) {
    columns[kept + block - from] = static_cast<std::uint16_t>(block);
  }
  if (lane() == 0) lists.counts[list] = kept + blocks - from;
}

/// Sorts by counting: a row's position is the number of rows with a larger key. Keys are larger for longer rows, and
/// among rows of equal length for earlier ones. Four threads count for each row. Shared memory: the keys, [blocks],
/// padded with zeros to a multiple of 4.
__global__ void __launch_bounds__(kOrderThreads)
    order_kernel(int blocks, const std::int32_t* __restrict__ counts, std::uint16_t* __restrict__ order) {
  extern __shared__ uint4 keys[];
  std::uint32_t* const each = reinterpret_cast<std::uint32_t*>(keys);
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.y) * blocks;
  const int quads = (blocks + 3) / 4, thread = static_cast<int>(threadIdx.x);
  for (int row = thread; row < 4 * quads; row += kOrderThreads) {
    each[row] = row < blocks ? static_cast<std::uint32_t>(counts[first_row + row]) << 16 | (0xffffU - row) : 0;
  }
  __syncthreads();
  const int row = (static_cast<int>(blockIdx.x) * kOrderThreads + thread) / 4;
  const std::uint32_t own = row < blocks ? each[row] : ~0U;
  int place = 0;
#pragma unroll 4
  for (int quad = thread % 4; quad < quads; quad += 4) {
    const uint4 others = keys[quad];
    place += (others.x > own) + (others.y > own) + (others.z > own) + (others.w > own);
  }
  place += __shfl_xor_sync(~0U, place, 1);
  place += __shfl_xor_sync(~0U, place, 2);
  if (row < blocks && thread % 4 == 0) order[first_row + place] = static_cast<std::uint16_t>(row);
}

}  // namespace

void write_lists(const Layout& layout, Rule rule, const float* scores, void* workspace, const BlockLists& lists,
                 cudaStream_t stream) {
  require_valid(layout);
  require_aligned("write_lists: scores", scores);
  require_aligned("write_lists: workspace", workspace);
  // Aligned to their elements alone, so that a caller may pass pointers to the lists of some of its heads.
  require_aligned("write_lists: columns", lists.columns, sizeof *lists.columns);
  require_aligned("write_lists: counts", lists.counts, sizeof *lists.counts);
  require_aligned("write_lists: order", lists.order, sizeof *lists.order);
  const Workspace parts(layout, workspace);
  const int blocks = layout.blocks();
  const auto warps_for = [&](int rows) { return dim3((rows + kWarps - 1) / kWarps, layout.heads); };
  write_rows_kernel<<<warps_for(blocks), kThreads, 0, stream>>>(layout.regions(), blocks, rule == Rule::row, scores,
                                                                parts.thresholds, parts.row_ties, lists);
  check_launch("write_rows_kernel");
  static_assert((kMostBlocks + 3) * sizeof(std::uint32_t) <= 48 * 1024 && kMostBlocks < 0xffff);
  order_kernel<<<dim3((4 * blocks + kOrderThreads - 1) / kOrderThreads, layout.heads), kOrderThreads,
                 (blocks + 3) / 4 * sizeof(uint4), stream>>>(blocks, lists.counts, lists.order);
  check_launch("order_kernel");
}

}  // namespace draft::gpu
