// Idea:     the complement of each block row's list, as bits; and which regions an edge of the grid cuts.
// Map:      one CTA of 128 threads for each block row and head: all regions' bits in shared memory, then the listed
//           ones cleared. The first CTA writes the edges' bits.
// Needs:    lists as write_lists makes them; sm_80 on.
// Costs:    reads 2 bytes a kept block, writes regions / 8 bytes a block row.
// Numerics: bits; the sizes' logarithms in fp64 on the host, rounded to fp32.

#include <cmath>

#include "kernels/attend/remainder.hpp"
#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {
namespace {

constexpr int kThreads = 128;

/// Word `word` of the bits of 32 regions, of those for which `meets` holds.
template <typename Meets>
__device__ std::uint32_t word_of(int word, int regions, Meets meets) {
  std::uint32_t bits = 0;
  for (int bit = 0; bit < 32 && 32 * word + bit < regions; ++bit) {
    if (meets(32 * word + bit)) bits |= 1U << bit;
  }
  return bits;
}

__global__ void __launch_bounds__(kThreads)
    dropped_blocks_kernel(Layout layout, BlockLists lists, DroppedBlocks dropped) {
  __shared__ std::uint32_t words[(kMostBlocks + kPooledTile - 1) / kPooledTile * 4];
  const int regions = layout.regions(), blocks = layout.blocks(), tiles = pooled_tiles(layout);
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  for (int word = thread; word < 4 * tiles; word += kThreads) {
    const int there = regions - 32 * word;
    words[word] = there >= 32 ? ~0U : there <= 0 ? 0U : (1U << there) - 1U;
  }
  __syncthreads();
  const std::int64_t list = static_cast<std::int64_t>(head) * blocks + row;
  const std::uint16_t* columns = lists.columns + list * blocks;
  for (int place = thread; place < lists.counts[list]; place += kThreads) {
    const int column = columns[place];
    if (column < regions) atomicAnd(words + column / 32, ~(1U << column % 32));
  }
  __syncthreads();
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

std::size_t tiles_of_rows(const Layout& layout) {
  return static_cast<std::size_t>(layout.heads) * static_cast<std::size_t>(layout.regions()) *
         static_cast<std::size_t>(pooled_tiles(layout));
}

/// Tokens of the last region along one axis, or `region` if it is whole.
int last_extent(int grid, int region) { return grid % region == 0 ? region : grid % region; }

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
  const int width = last_extent(layout.width, layout.region_width);
  const int height = last_extent(layout.height, layout.region_height);
  const auto term = [&](double tokens, double of) { return static_cast<float>(std::log(tokens / of) / call.scale); };
  const DroppedBlocks dropped{.bits = bits,
                              .narrow_bits = narrow_bits,
                              .low_bits = narrow_bits + pooled_tiles(layout),
                              .whole = term(layout.region_tokens(), 1),
                              .narrow = term(width, layout.region_width),
                              .low = term(height, layout.region_height),
                              .ragged = width < layout.region_width || height < layout.region_height};
  dropped_blocks_kernel<<<dim3(layout.regions(), layout.heads), kThreads, 0, stream>>>(layout, call.lists, dropped);
  check_launch("dropped_blocks_kernel");
  return dropped;
}

}  // namespace draft::gpu
