#include "experiments/verify/kernels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/core/guarded.hpp"

namespace draft {

std::vector<Index> GroupMasks::tokens(Index block) const {
  std::vector<Index> tokens;
  if (block >= layout.regions()) {
    const Index first = layout.video() + (block - layout.regions()) * layout.region_tokens();
    for (Index t = first; t < std::min<Index>(first + layout.region_tokens(), layout.tokens()); ++t)
      tokens.push_back(t);
    return tokens;
  }
  const gpu::Box box = layout.box(static_cast<int>(block));
  for (Index row = 0; row < box.rows; ++row) {
    for (Index column = 0; column < box.columns; ++column) tokens.push_back(box.first + row * layout.width + column);
  }
  return tokens;
}

HeadGroup::HeadGroup(const Grid& grid, Index heads, Index head_dim, Element element, double scale)
    : grid_(grid),
      heads_(heads),
      head_dim_(head_dim),
      element_(element),
      scale_(static_cast<float>(scale)),
      capability_(gpu::device_capability()) {
  for (auto& tensor : inputs_) {
    tensor = gpu::DeviceBuffer<std::uint16_t>(static_cast<std::size_t>(heads * grid.tokens() * head_dim));
  }
}

void HeadGroup::upload(Index place, const std::vector<std::uint16_t>& q, const std::vector<std::uint16_t>& k,
                       const std::vector<std::uint16_t>& v) {
  const std::vector<std::uint16_t>* sources[] = {&q, &k, &v};
  for (std::size_t i = 0; i < 3; ++i) {
    gpu::copy_to_device(inputs_[i].data() + place * static_cast<Index>(sources[i]->size()),
                        std::span<const std::uint16_t>(*sources[i]));
  }
  reordered_region_ = {0, 0};
}

std::vector<BlockMask> HeadGroup::keep_draft(const MaskChoice& the_case, const GroupMasks& masks) {
  const gpu::DeviceBuffer<std::uint8_t> mask(static_cast<std::size_t>(masks.layout.map_offset(masks.layout.heads)));
  const gpu::MaskPipeline pipeline(masks.layout);
  pipeline.enqueue({element_,
                    {the_case.pool, the_case.rule, the_case.sparsity, scale_},
                    inputs_[0].data(),
                    inputs_[1].data(),
                    masks.lists->view(mask.data())},
                   stream_.get());
  pipeline.require_fine();
  const std::vector<std::uint8_t> kept = mask.download();
  const Index regions = masks.layout.regions();
  std::vector<BlockMask> kept_masks(static_cast<std::size_t>(heads_), BlockMask(regions, false));
  for (Index head = 0; head < heads_; ++head) {
    const std::uint8_t* own = kept.data() + head * regions * regions;
    for (Index row = 0; row < regions; ++row) {
      for (Index column = 0; column < regions; ++column) {
        kept_masks[static_cast<std::size_t>(head)].set(row, column, own[row * regions + column] != 0);
      }
    }
  }
  return kept_masks;
}

GroupMasks HeadGroup::masks(const MaskChoice& the_case, std::uint64_t seed) {
  GroupMasks masks;
  masks.layout = gpu_layout(grid_, heads_, head_dim_, the_case.region);
  masks.dense = the_case.policy == Policy::dense;
  const Index regions = masks.layout.regions(), blocks = masks.layout.blocks();
  if (masks.dense) {
    masks.masks.assign(static_cast<std::size_t>(heads_), BlockMask(regions, true));
  } else if (the_case.policy == Policy::draft) {
    masks.lists = std::make_unique<DeviceLists>(masks.layout);
    masks.masks = keep_draft(the_case, masks);
  } else {
    masks.masks = policy_masks(the_case.policy, heads_, regions, the_case.sparsity, seed);
    masks.lists = std::make_unique<DeviceLists>(masks.layout, lists_of(masks.masks, masks.layout.text_blocks()));
  }
  for (const BlockMask& mask : masks.masks) {
    std::vector<Index> counts(static_cast<std::size_t>(blocks), blocks);
    for (Index row = 0; row < regions; ++row) {
      counts[static_cast<std::size_t>(row)] = static_cast<Index>(mask.columns(row).size()) + blocks - regions;
    }
    masks.row_counts.push_back(std::move(counts));
  }
  return masks;
}

void HeadGroup::reorder_for(const gpu::Layout& layout) {
  const RegionSize region{layout.region_height, layout.region_width};
  if (reordered_region_ == region) return;
  for (std::size_t i = 0; i < 3; ++i) {
    if (reordered_[i].size() == 0) reordered_[i] = gpu::DeviceBuffer<std::uint16_t>(inputs_[i].size());
    gpu::reorder(layout, inputs_[i].data(), reordered_[i].data(), stream_.get());
  }
  stream_.wait();
  reordered_region_ = region;
}

KernelRun HeadGroup::run(const gpu::AttentionKernel& kernel, const GroupMasks& masks, bool region_order) {
  gpu::Attention call{.layout = masks.layout, .element = element_, .scale = scale_, .region_order = region_order};
  KernelRun result;
  result.unsupported = kernel.unsupported(call, capability_);
  if (!result.unsupported.empty()) return result;
  if (region_order) reorder_for(masks.layout);
  const auto& inputs = region_order ? reordered_ : inputs_;
  gpu::GuardedBuffer<std::uint16_t> o(inputs[0].size());
  gpu::GuardedBuffer<float> lse(static_cast<std::size_t>(heads_ * grid_.tokens()));
  gpu::GuardedBuffer<std::uint8_t> workspace(kernel.workspace(call));
  call.q = inputs[0].data();
  call.k = inputs[1].data();
  call.v = inputs[2].data();
  call.o = o.data();
  call.lse = lse.data();
  if (!masks.dense) call.lists = masks.lists->view();
  for (const bool again : {false, true}) {
    o.poison();
    lse.poison();
    kernel.launch(call, {blas_, workspace.data()}, stream_.get());
    stream_.wait();
    std::vector<std::uint16_t> o_bits = o.read();
    std::vector<float> lse_numbers = lse.read();
    result.guard_bytes =
        std::max(result.guard_bytes, o.guards_written() + lse.guards_written() + workspace.guards_written());
    if (again) {
      result.repeats = o_bits == result.o && std::equal(lse_numbers.begin(), lse_numbers.end(), result.lse.begin());
    } else {
      result.o = std::move(o_bits);
      result.lse = std::move(lse_numbers);
    }
  }
  const bool bfloat = element_ == Element::bfloat16;
  const std::uint16_t infinity = bfloat ? kBfloat16.infinity() : kFloat16.infinity();
  result.unwritten = static_cast<std::size_t>(
      std::count_if(result.o.begin(), result.o.end(), [&](std::uint16_t bits) { return (bits & 0x7fff) > infinity; }) +
      std::count_if(result.lse.begin(), result.lse.end(), [](float number) { return std::isnan(number); }));
  return result;
}

}  // namespace draft
