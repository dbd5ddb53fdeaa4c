// Idea:     kept[i, j] = score > threshold, or score = threshold and fewer than `kept` such entries come before it
//           (of the head, or of the row); then each row's kept columns side by side, and the rows longest first.
// Map:      count_ties, write_rows: one warp a block row, 32 columns a step, ballot and popc for the positions.
//           order: one block a head, a counting sort by row length whose scatter one warp does in row order.
// Needs:    what find_thresholds left; at most kMostBlocks blocks; sm_80 on.
// Costs:    reads 4 * heads * regions^2 bytes once, and once more in heads where only some ties stay; writes
//           2 bytes a kept block, 6 bytes a block row, and 1 byte an entry if the mask is asked for.
// Numerics: integers in a fixed order. A row that keeps no video block has only its text columns, or count 0.

#include "kernels/arguments.hpp"
#include "kernels/cuda_check.hpp"
#include "kernels/selection.cuh"

namespace draft::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kLoads = 4;

__device__ inline int lane() { return static_cast<int>(threadIdx.x) % 32; }
__device__ inline unsigned lanes_before() { return (1U << lane()) - 1U; }
/// The block row of this warp.
__device__ inline int warp_row() { return static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32; }

__device__ inline std::uint32_t sum_of_warp(std::uint32_t value) { return __reduce_add_sync(~0U, value); }

/// Entries of each row that equal the head's threshold; only where not all of them are kept.
__global__ void __launch_bounds__(kThreads)
    count_ties_kernel(Layout layout, const float* __restrict__ scores, const Threshold* __restrict__ thresholds,
                      std::uint32_t* __restrict__ row_ties) {
  const int row = warp_row(), head = static_cast<int>(blockIdx.y), regions = layout.regions();
  const Threshold threshold = thresholds[head];
  if (row >= regions || threshold.kept == threshold.ties) return;
  const float* own = scores + layout.map_offset(head) + static_cast<std::int64_t>(row) * regions;
  std::uint32_t ties = 0;
  for (int column = lane(); column < regions; column += 32) ties += order_key(own[column]) == threshold.key ? 1 : 0;
  ties = sum_of_warp(ties);
  if (lane() == 0) row_ties[head * regions + row] = ties;
}

/// Ties of the head in the rows before `row`.
__device__ inline std::uint32_t ties_before(const std::uint32_t* head_ties, int row) {
  std::uint32_t ties = 0;
  for (int before = lane(); before < row; before += 32) ties += head_ties[before];
  return sum_of_warp(ties);
}

__global__ void __launch_bounds__(kThreads)
    write_rows_kernel(Layout layout, bool by_row, const float* __restrict__ scores,
                      const Threshold* __restrict__ thresholds, const std::uint32_t* __restrict__ row_ties,
                      BlockLists lists) {
  const int row = warp_row(), head = static_cast<int>(blockIdx.y);
  const int regions = layout.regions(), blocks = layout.blocks();
  if (row >= blocks) return;
  const std::int64_t list = static_cast<std::int64_t>(head) * blocks + row;
  std::uint16_t* columns = lists.columns + list * blocks;

  int kept = 0;
  if (row < regions) {
    const Threshold threshold = thresholds[by_row ? head * regions + row : head];
    const std::int64_t first_entry = layout.map_offset(head) + static_cast<std::int64_t>(row) * regions;
    std::uint32_t ties = 0;  // entries before this one that equal the threshold
    if (!by_row && threshold.kept < threshold.ties) ties = ties_before(row_ties + head * regions, row);
    for (int first = 0; first < regions; first += 32 * kLoads) {
      float loaded[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int column = first + 32 * i + lane();
        loaded[i] = column < regions ? scores[first_entry + column] : 0.0F;
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const int column = first + 32 * i + lane();
        const std::uint32_t key = order_key(loaded[i]);
        const bool inside = column < regions;
        const bool tie = inside && key == threshold.key;
        const unsigned tied_lanes = __ballot_sync(~0U, tie);
        const bool keep =
            (inside && key > threshold.key) || (tie && ties + __popc(tied_lanes & lanes_before()) < threshold.kept);
        const unsigned kept_lanes = __ballot_sync(~0U, keep);
        if (keep) columns[kept + __popc(kept_lanes & lanes_before())] = static_cast<std::uint16_t>(column);
        if (lists.mask != nullptr && inside) lists.mask[first_entry + column] = keep ? 1 : 0;
        ties += __popc(tied_lanes);
        kept += __popc(kept_lanes);
      }
    }
  }
  // A text row keeps every block; a video row what was found above and the text blocks.
  const int from = row < regions ? regions : 0;
  for (int block = from + lane(); block < blocks; block += 32) {
    columns[kept + block - from] = static_cast<std::uint16_t>(block);
  }
  if (lane() == 0) lists.counts[list] = kept + blocks - from;
}

/// Counting sort of a head's block rows by falling count. Shared: starts [blocks + 1].
__global__ void __launch_bounds__(kThreads)
    order_kernel(int blocks, const std::int32_t* __restrict__ counts, std::uint16_t* __restrict__ order) {
  extern __shared__ int starts[];  // of the rows that keep (blocks - b) blocks: their number, then where they go
  const std::int64_t first_row = static_cast<std::int64_t>(blockIdx.x) * blocks;
  for (int bin = static_cast<int>(threadIdx.x); bin <= blocks; bin += kThreads) starts[bin] = 0;
  __syncthreads();
  for (int row = static_cast<int>(threadIdx.x); row < blocks; row += kThreads) {
    atomicAdd(&starts[blocks - counts[first_row + row]], 1);
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;  // one warp goes on, in row order

  int placed = 0;
  for (int bin = lane(); bin - lane() <= blocks; bin += 32) {
    const int own = bin <= blocks ? starts[bin] : 0;
    int through = own;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const int other = __shfl_up_sync(~0U, through, distance);
      if (lane() >= distance) through += other;
    }
    if (bin <= blocks) starts[bin] = placed + through - own;
    placed += __shfl_sync(~0U, through, 31);
  }
  __syncwarp();

  int next = lane() < blocks ? blocks - counts[first_row + lane()] : -1;  // bin of the row in hand, -1: no row
  for (int row = lane(); row - lane() < blocks; row += 32) {
    const int bin = next;
    next = row + 32 < blocks ? blocks - counts[first_row + row + 32] : -1;
    const unsigned peers = __match_any_sync(~0U, bin);
    const int before = __popc(peers & lanes_before());
    const int start = bin >= 0 ? starts[bin] : 0;
    __syncwarp();
    if (bin >= 0) {
      order[first_row + start + before] = static_cast<std::uint16_t>(row);
      if (before == 0) starts[bin] = start + __popc(peers);
    }
    __syncwarp();
  }
}

}  // namespace

void write_lists(const Layout& layout, Rule rule, const float* scores, void* workspace, const BlockLists& lists,
                 cudaStream_t stream) {
  require_valid(layout);
  require_aligned("write_lists: scores", scores);
  require_aligned("write_lists: workspace", workspace);
  require_aligned("write_lists: columns", lists.columns);
  require_aligned("write_lists: counts", lists.counts);
  require_aligned("write_lists: order", lists.order);
  if (lists.mask != nullptr) require_aligned("write_lists: mask", lists.mask);
  const Workspace parts(layout, workspace);
  const int blocks = layout.blocks();
  const auto warps_for = [&](int rows) { return dim3((rows + kWarps - 1) / kWarps, layout.heads); };
  if (rule == Rule::logits || rule == Rule::softmax) {
    count_ties_kernel<<<warps_for(layout.regions()), kThreads, 0, stream>>>(layout, scores, parts.thresholds,
                                                                            parts.row_ties);
    check_launch("count_ties_kernel");
  }
  write_rows_kernel<<<warps_for(blocks), kThreads, 0, stream>>>(layout, rule == Rule::row, scores, parts.thresholds,
                                                                parts.row_ties, lists);
  check_launch("write_rows_kernel");
  static_assert((kMostBlocks + 1) * sizeof(int) <= 48 * 1024);
  order_kernel<<<layout.heads, kThreads, (blocks + 1) * sizeof(int), stream>>>(blocks, lists.counts, lists.order);
  check_launch("order_kernel");
}

}  // namespace draft::gpu
