#include "experiments/verify_gpu.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/guarded.hpp"

namespace draft {
namespace {

gpu::Pool gpu_pool(Pool pool) { return pool == Pool::average ? gpu::Pool::average : gpu::Pool::maximum; }

gpu::Rule gpu_rule(Rule rule) {
  switch (rule) {
    case Rule::logits: return gpu::Rule::logits;
    case Rule::softmax: return gpu::Rule::softmax;
    case Rule::released: return gpu::Rule::released;
    case Rule::row: return gpu::Rule::row;
  }
  throw std::invalid_argument("rule: not one of logits, softmax, released, row");
}

/// Lists of host masks, as write_lists makes them.
void upload_lists(GroupMasks& masks) {
  const auto blocks = static_cast<std::size_t>(masks.layout.blocks());
  std::vector<std::uint16_t> columns, order;
  std::vector<std::int32_t> counts;
  for (const BlockMask& mask : masks.masks) {
    std::vector<std::int32_t> own(blocks);
    for (std::size_t row = 0; row < blocks; ++row) {
      const bool text = row >= static_cast<std::size_t>(mask.regions());
      const std::size_t first = columns.size();
      for (std::size_t column = 0; column < blocks; ++column) {
        const bool always = text || column >= static_cast<std::size_t>(mask.regions());
        if (always || mask.kept(static_cast<Index>(row), static_cast<Index>(column))) {
          columns.push_back(static_cast<std::uint16_t>(column));
        }
      }
      own[row] = static_cast<std::int32_t>(columns.size() - first);
      columns.resize(first + blocks);
    }
    std::vector<std::uint16_t> longest(blocks);
    std::iota(longest.begin(), longest.end(), std::uint16_t{0});
    std::stable_sort(longest.begin(), longest.end(), [&](std::uint16_t a, std::uint16_t b) { return own[a] > own[b]; });
    order.insert(order.end(), longest.begin(), longest.end());
    counts.insert(counts.end(), own.begin(), own.end());
  }
  masks.columns = gpu::DeviceBuffer<std::uint16_t>(std::span<const std::uint16_t>(columns));
  masks.order = gpu::DeviceBuffer<std::uint16_t>(std::span<const std::uint16_t>(order));
  masks.counts = gpu::DeviceBuffer<std::int32_t>(std::span<const std::int32_t>(counts));
}

}  // namespace

std::vector<Index> GroupMasks::tokens(Index block) const {
  std::vector<Index> tokens;
  if (block >= layout.regions()) {
    const Index first = layout.video() + (block - layout.regions()) * layout.region_tokens();
    for (Index t = first; t < std::min<Index>(first + layout.region_tokens(), layout.tokens()); ++t) tokens.push_back(t);
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
      element_(element == Element::bfloat16 ? gpu::Element::bfloat16 : gpu::Element::float16),
      scale_(static_cast<float>(scale)),
      capability_(gpu::device_capability()) {
  for (auto& tensor : inputs_) {
    tensor = gpu::DeviceBuffer<std::uint16_t>(static_cast<std::size_t>(heads * grid.tokens() * head_dim));
  }
}

gpu::Layout HeadGroup::layout(RegionSize region) const {
  const gpu::Layout layout{.heads = static_cast<int>(heads_),
                           .frames = static_cast<int>(grid_.frames),
                           .height = static_cast<int>(grid_.height),
                           .width = static_cast<int>(grid_.width),
                           .text = static_cast<int>(grid_.text),
                           .head_dim = static_cast<int>(head_dim_),
                           .region_height = static_cast<int>(region.height),
                           .region_width = static_cast<int>(region.width)};
  try {
    gpu::require_valid(layout);
  } catch (const std::invalid_argument& error) {
    throw UsageError(fmt::format("kernels with regions {} on grid {}: {}", to_string(region), to_string(grid_), error.what()));
  }
  return layout;
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

void HeadGroup::keep_draft(const VerifyCase& the_case, GroupMasks& masks, std::vector<std::uint8_t>& kept) {
  const gpu::Layout& layout = masks.layout;
  const auto heads = static_cast<std::size_t>(heads_), regions = static_cast<std::size_t>(layout.regions());
  const auto blocks = static_cast<std::size_t>(layout.blocks());
  const gpu::DeviceBuffer<float> q(heads * regions * static_cast<std::size_t>(head_dim_)), k(q.size());
  const gpu::DeviceBuffer<float> map(heads * regions * regions);
  const gpu::DeviceBuffer<std::uint8_t> workspace(gpu::workspace_bytes(layout)), mask(map.size());
  const gpu::DeviceBuffer<std::int32_t> status(heads);
  masks.columns = gpu::DeviceBuffer<std::uint16_t>(heads * blocks * blocks);
  masks.counts = gpu::DeviceBuffer<std::int32_t>(heads * blocks);
  masks.order = gpu::DeviceBuffer<std::uint16_t>(heads * blocks);
  const gpu::Rule rule = gpu_rule(the_case.rule);
  gpu::pool(layout, element_, gpu_pool(the_case.pool), inputs_[0].data(), q.data(), stream_.get());
  gpu::pool(layout, element_, gpu_pool(the_case.pool), inputs_[1].data(), k.data(), stream_.get());
  if (rule == gpu::Rule::softmax || rule == gpu::Rule::released) {
    gpu::draft_probabilities(layout, scale_, q.data(), k.data(), map.data(), stream_.get());
  } else {
    gpu::draft_logits(layout, q.data(), k.data(), map.data(), stream_.get());
  }
  gpu::find_thresholds(layout, rule, the_case.sparsity, map.data(), workspace.data(), status.data(), stream_.get());
  gpu::write_lists(layout, rule, map.data(), workspace.data(),
                   {masks.columns.data(), masks.counts.data(), masks.order.data(), mask.data()}, stream_.get());
  stream_.wait();
  for (const std::int32_t head : status.download()) {
    if (head != gpu::kFine) gpu::fail("find_thresholds", "a draft map holds a NaN");
  }
  kept = mask.download();
}

GroupMasks HeadGroup::masks(const VerifyCase& the_case, std::uint64_t seed) {
  GroupMasks masks;
  masks.layout = layout(the_case.region);
  masks.dense = the_case.keep == Keep::all;
  const Index regions = masks.layout.regions(), blocks = masks.layout.blocks();
  std::vector<std::uint8_t> kept;
  if (the_case.keep == Keep::draft) keep_draft(the_case, masks, kept);
  for (Index head = 0; head < heads_; ++head) {
    BlockMask mask(regions, true);
    if (the_case.keep == Keep::uneven) mask = uneven_mask(regions, seed + static_cast<std::uint64_t>(head));
    if (the_case.keep == Keep::draft) {
      const std::uint8_t* own = kept.data() + head * regions * regions;
      for (Index row = 0; row < regions; ++row) {
        for (Index column = 0; column < regions; ++column) mask.set(row, column, own[row * regions + column] != 0);
      }
    }
    std::vector<Index> counts(static_cast<std::size_t>(blocks), blocks);
    for (Index row = 0; row < regions; ++row) {
      counts[static_cast<std::size_t>(row)] = static_cast<Index>(mask.columns(row).size()) + blocks - regions;
    }
    masks.masks.push_back(std::move(mask));
    masks.row_counts.push_back(std::move(counts));
  }
  if (the_case.keep == Keep::uneven) upload_lists(masks);
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
  if (!masks.dense) {
    call.columns = masks.columns.data();
    call.counts = masks.counts.data();
    call.order = masks.order.data();
  }
  for (const bool again : {false, true}) {
    o.poison();
    lse.poison();
    kernel.launch(call, {blas_, workspace.data()}, stream_.get());
    stream_.wait();
    std::vector<std::uint16_t> o_bits = o.read();
    std::vector<float> lse_numbers = lse.read();
    result.guard_bytes = std::max(result.guard_bytes, o.guards_written() + lse.guards_written() + workspace.guards_written());
    if (again) {
      result.repeats = o_bits == result.o && std::equal(lse_numbers.begin(), lse_numbers.end(), result.lse.begin());
    } else {
      result.o = std::move(o_bits);
      result.lse = std::move(lse_numbers);
    }
  }
  const bool bfloat = element_ == gpu::Element::bfloat16;
  const std::uint16_t infinity = bfloat ? kBfloat16.infinity() : kFloat16.infinity();
  result.unwritten = static_cast<std::size_t>(
      std::count_if(result.o.begin(), result.o.end(), [&](std::uint16_t bits) { return (bits & 0x7fff) > infinity; }) +
      std::count_if(result.lse.begin(), result.lse.end(), [](float number) { return std::isnan(number); }));
  return result;
}

}  // namespace draft
