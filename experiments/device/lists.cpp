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
gpu::Rule gpu_rule(Rule rule) {
  switch (rule) {
    case Rule::logits: return gpu::Rule::logits;
    case Rule::softmax: return gpu::Rule::softmax;
    case Rule::released: return gpu::Rule::released;
    case Rule::row: return gpu::Rule::row;
  }
  throw std::invalid_argument("rule: not one of logits, softmax, released, row");
}

}  // namespace

gpu::DraftRule gpu_draft(Pool pool, Rule rule, double sparsity, float scale) {
  return {pool == Pool::average ? gpu::Pool::average : gpu::Pool::maximum, gpu_rule(rule), sparsity, scale};
}

gpu::Layout gpu_layout(const Grid& grid, Index heads, Index head_dim, RegionSize region) {
  const gpu::Layout layout{.heads = static_cast<int>(heads),
                           .frames = static_cast<int>(grid.frames),
                           .height = static_cast<int>(grid.height),
                           .width = static_cast<int>(grid.width),
                           .text = static_cast<int>(grid.text),
                           .head_dim = static_cast<int>(head_dim),
                           .region_height = static_cast<int>(region.height),
                           .region_width = static_cast<int>(region.width)};
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
