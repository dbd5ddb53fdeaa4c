#include "experiments/device/lists.hpp"

#include <fmt/format.h>

#include <span>
#include <stdexcept>

#include "harness/options.hpp"

namespace draft {
namespace {

std::size_t lines(const gpu::Layout& layout) {
  return static_cast<std::size_t>(layout.heads) * static_cast<std::size_t>(layout.blocks());
}

}  // namespace

gpu::Layout layout_of(const Grid& grid, Index heads, Index head_dim, RegionSize region) {
  return {.heads = static_cast<int>(heads),
          .frames = static_cast<int>(grid.frames),
          .height = static_cast<int>(grid.height),
          .width = static_cast<int>(grid.width),
          .text = static_cast<int>(grid.text),
          .head_dim = static_cast<int>(head_dim),
          .region_height = static_cast<int>(region.height),
          .region_width = static_cast<int>(region.width)};
}

gpu::Layout gpu_layout(const Grid& grid, Index heads, Index head_dim, RegionSize region) {
  const gpu::Layout layout = layout_of(grid, heads, head_dim, region);
  try {
    gpu::require_valid(layout);
  } catch (const std::invalid_argument& error) {
    throw UsageError(
        fmt::format("kernels with regions {} on grid {}: {}", to_string(region), to_string(grid), error.what()));
  }
  return layout;
}

DeviceLists::DeviceLists(const gpu::Layout& layout)
    : columns_(lines(layout) * static_cast<std::size_t>(layout.blocks())),
      counts_(lines(layout)),
      order_(lines(layout)) {}

DeviceLists::DeviceLists(const gpu::Layout& layout, const HostLists& lists) : DeviceLists(layout) {
  columns_.upload(std::span<const std::uint16_t>(lists.columns));
  counts_.upload(std::span<const std::int32_t>(lists.counts));
  order_.upload(std::span<const std::uint16_t>(lists.order));
}

}  // namespace draft
