// Idea:     the complement of each block row's list, as bits or as a list; and which regions an edge of the grid cuts.
// Map:      one CTA of 128 threads for each block row and head: all regions' bits in shared memory, then the listed
//           ones cleared. The first CTA writes the edges' bits. For a list the CTA goes through the bits 128 at a time
//           and places by ballots.
// Needs:    lists as write_lists makes them; sm_80 on.
// Costs:    reads 2 bytes a kept block, writes regions / 8 bytes a block row; as a list 2 bytes a dropped one.
// Numerics: bits; the sizes' logarithms in fp64 on the host, rounded to fp32.

#include <cmath>

#include "kernels/attend/remainder.hpp"
#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {
namespace {

constexpr int kThreads = 128;
constexpr int kWords = (kMostBlocks + kPooledTile - 1) / kPooledTile * 4;

/// Word `word` of the bits of 32 regions, of those for which `meets` holds.
template <typename Meets>
__device__ std::uint32_t word_of(int word, int regions, Meets meets) {
  std::uint32_t bits = 0;
  for (int bit = 0; bit < 32 && 32 * word + bit < regions; ++bit) {
    if (meets(32 * word + bit)) bits |= 1U << bit;
  }
  return bits;
}

/// The CTA's block row's dropped regions, as bits in `words`.
__device__ void mark_dropped(const Layout& layout, const BlockLists& lists, int row, int head,
                             std::uint32_t (&words)[kWords]) {
  const int regions = layout.regions(), thread = static_cast<int>(threadIdx.x);
  for (int word = thread; word < 4 * pooled_tiles(layout); word += kThreads) {
    const int there = regions - 32 * word;
    words[word] = there >= 32 ? ~0U : there <= 0 ? 0U : (1U << there) - 1U;
  }
  __syncthreads();
  const std::int64_t list = static_cast<std::int64_t>(head) * layout.blocks() + row;
  const std::uint16_t* columns = lists.columns + list * layout.blocks();
  for (int place = thread; place < lists.counts[list]; place += kThreads) {
    const int column = columns[place];
    if (column < regions) atomicAnd(words + column / 32, ~(1U << column % 32));
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads)
    dropped_blocks_kernel(Layout layout, BlockLists lists, DroppedBlocks dropped) {
  __shared__ std::uint32_t words[kWords];
  const int regions = layout.regions(), tiles = pooled_tiles(layout);
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  mark_dropped(layout, lists, row, head, words);
  uint4* bits = dropped.bits + (static_cast<std::int64_t>(head) * regions + row) * tiles;
  for (int tile = thread; tile < tiles; tile += kThreads) {
    bits[tile] = make_uint4(words[4 * tile], words[4 * tile + 1], words[4 * tile + 2], words[4 * tile + 3]);
  }
  if (row != 0 || head != 0) return;
  for (int word = thread; word < 4 * tiles; word += kThreads) {
    reinterpret_cast<std::uint32_t*>(dropped.narrow_bits)[word] =
        word_of(word, regions, [&](int region) { return layout.box(region).columns < layout.region_width; });
    reinterpret_cast<std::uint32_t*>(dropped.low_bits)[word] =
        word_of(word, regions, [&](int region) { return layout.box(region).rows < layout.region_height; });
  }
}

__global__ void __launch_bounds__(kThreads)
    dropped_lists_kernel(Layout layout, BlockLists lists, DroppedLists dropped) {
  __shared__ std::uint32_t words[kWords];
  __shared__ int found[2][kThreads / 32];
  const int regions = layout.regions(), row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  mark_dropped(layout, lists, row, head, words);
  const std::int64_t line = static_cast<std::int64_t>(head) * regions + row;
  std::uint16_t* list = dropped.regions + line * dropped.length;
  int written = 0;
  for (int first = 0, parity = 0; first < regions; first += kThreads, parity ^= 1) {
    const int region = first + thread;
    const std::uint32_t word = words[first / 32 + warp];  // past the last region: 0
    if (lane == 0) found[parity][warp] = __popc(word);
    __syncthreads();  // one is enough: the other parity's counts are read before the next one
    int place = written + __popc(word & ((1U << lane) - 1U));
    for (int other = 0; other < kThreads / 32; ++other) {
      place += other < warp ? found[parity][other] : 0;
      written += found[parity][other];
    }
    if ((word >> lane & 1U) == 0) continue;
    const Box box = layout.box(region);
    list[place] = static_cast<std::uint16_t>(region | (box.columns < layout.region_width ? kNarrowRegion : 0) |
                                             (box.rows < layout.region_height ? kLowRegion : 0));
  }
  if (thread != 0) return;
  dropped.counts[line] = written;
  if (written % 2 != 0) list[written] = 0;  // lists are copied two entries at a time
}

/// Block rows of all heads.
std::size_t rows_of(const Layout& layout) {
  return static_cast<std::size_t>(layout.heads) * static_cast<std::size_t>(layout.regions());
}
std::size_t tiles_of_rows(const Layout& layout) {
  return rows_of(layout) * static_cast<std::size_t>(pooled_tiles(layout));
}
int list_length(const Layout& layout) { return (layout.regions() + 63) / 64 * 64; }

/// Tokens of the last region along one axis, or `region` if it is whole.
int last_extent(int grid, int region) { return grid % region == 0 ? region : grid % region; }

/// As DroppedBlocks has them; those of an edge that cuts no region are 0.
struct SizeTerms {
  float whole, narrow, low;
  explicit SizeTerms(const Attention& call) {
    const Layout& layout = call.layout;
    const auto term = [&](double tokens, double of) { return static_cast<float>(std::log(tokens / of) / call.scale); };
    whole = term(layout.region_tokens(), 1);
    narrow = term(last_extent(layout.width, layout.region_width), layout.region_width);
    low = term(last_extent(layout.height, layout.region_height), layout.region_height);
  }
};

}  // namespace

std::size_t dropped_blocks_workspace(const Attention& call) {
  if (!call.has_remainder()) return 0;
  return (tiles_of_rows(call.layout) + 2 * static_cast<std::size_t>(pooled_tiles(call.layout))) * sizeof(uint4);
}

DroppedBlocks write_dropped_blocks(const Attention& call, void* workspace, cudaStream_t stream) {
  require_aligned("write_dropped_blocks: workspace", workspace);
  const Layout& layout = call.layout;
  auto* const bits = static_cast<uint4*>(workspace);
  auto* const narrow_bits = bits + tiles_of_rows(layout);
  const SizeTerms terms(call);
  const DroppedBlocks dropped{.bits = bits,
                              .narrow_bits = narrow_bits,
                              .low_bits = narrow_bits + pooled_tiles(layout),
                              .whole = terms.whole,
                              .narrow = terms.narrow,
                              .low = terms.low,
                              .ragged = terms.narrow != 0.0F || terms.low != 0.0F};
  dropped_blocks_kernel<<<dim3(layout.regions(), layout.heads), kThreads, 0, stream>>>(layout, call.lists, dropped);
  check_launch("dropped_blocks_kernel");
  return dropped;
}

std::size_t dropped_lists_workspace(const Attention& call) {
  if (!call.has_remainder()) return 0;
  return rows_of(call.layout) *
         (static_cast<std::size_t>(list_length(call.layout)) * sizeof(std::uint16_t) + sizeof(std::int32_t));
}

DroppedLists write_dropped_lists(const Attention& call, void* workspace, cudaStream_t stream) {
  require_aligned("write_dropped_lists: workspace", workspace);
  const Layout& layout = call.layout;
  auto* const regions = static_cast<std::uint16_t*>(workspace);
  const int length = list_length(layout);
  const SizeTerms terms(call);
  const DroppedLists dropped{
      .regions = regions,
      .counts = reinterpret_cast<std::int32_t*>(regions + rows_of(layout) * static_cast<std::size_t>(length)),
      .length = length,
      .whole = terms.whole,
      .narrow = terms.narrow,
      .low = terms.low};
  dropped_lists_kernel<<<dim3(layout.regions(), layout.heads), kThreads, 0, stream>>>(layout, call.lists, dropped);
  check_launch("dropped_lists_kernel");
  return dropped;
}

}  // namespace draft::gpu
