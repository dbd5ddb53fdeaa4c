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

namespace {

/// Writes the masks' lists; returns the masks of all heads.
std::vector<BlockMask> keep_draft(const DeviceCall& call, const MaskChoice& choice, const DeviceLists& lists) {
  const gpu::Layout& layout = call.layout();
  const gpu::DeviceBuffer<std::uint8_t> mask(static_cast<std::size_t>(layout.map_offset(layout.heads)));
  const gpu::MaskPipeline pipeline(layout);
  const gpu::Stream stream;
  pipeline.enqueue(call.draft(choice, lists, mask.data()), stream.get());
  pipeline.require_fine();
  const std::vector<std::uint8_t> kept = mask.download();
  const Index regions = layout.regions();
  std::vector<BlockMask> masks(static_cast<std::size_t>(layout.heads), BlockMask(regions, false));
  const std::uint8_t* next = kept.data();
  for (BlockMask& own : masks) {
    for (Index row = 0; row < regions; ++row) {
      for (Index column = 0; column < regions; ++column) own.set(row, column, *next++ != 0);
    }
  }
  return masks;
}

}  // namespace

GroupMasks group_masks(DeviceCall& call, const MaskChoice& choice, std::uint64_t seed) {
  call.set_region(choice.region, true);
  GroupMasks masks;
  masks.layout = call.layout();
  const Index heads = masks.layout.heads, regions = masks.layout.regions(), blocks = masks.layout.blocks();
  if (choice.policy == Policy::dense) {
    masks.masks.assign(static_cast<std::size_t>(heads), BlockMask(regions, true));
  } else if (choice.policy == Policy::draft) {
    masks.lists = std::make_unique<DeviceLists>(masks.layout);
    masks.masks = keep_draft(call, choice, *masks.lists);
  } else {
    masks.masks = policy_masks(choice.policy, heads, regions, choice.sparsity, seed);
    masks.lists = std::make_unique<DeviceLists>(masks.layout, lists_of(masks.masks, masks.layout.text_blocks()));
  }
  if (choice.remainder == Remainder::pooled) {
    call.pool_rows()(nullptr);
    gpu::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    masks.pooled = call.pooled_rows();
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

KernelRun guarded_run(const DeviceCall& call, const gpu::AttentionKernel& kernel, const GroupMasks& masks,
                      bool region_order) {
  KernelRun result;
  const Remainder remainder = masks.pooled.empty() ? Remainder::none : Remainder::pooled;
  result.unsupported = call.unsupported(kernel, region_order, remainder);
  if (!result.unsupported.empty()) return result;
  gpu::Attention own = call.inputs(region_order, masks.lists.get(), remainder);
  const auto tokens = static_cast<std::size_t>(own.layout.heads) * static_cast<std::size_t>(own.layout.tokens());
  gpu::GuardedBuffer<std::uint16_t> o(tokens * static_cast<std::size_t>(own.layout.head_dim));
  gpu::GuardedBuffer<float> lse(tokens);
  gpu::GuardedBuffer<std::uint8_t> workspace(kernel.workspace(own));
  own.o = o.data();
  own.lse = lse.data();
  const gpu::Stream stream;
  for (const bool again : {false, true}) {
    o.poison();
    lse.poison();
    kernel.launch(own, {call.blas(), workspace.data()}, stream.get());
    stream.wait();
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
  const bool bfloat = call.element() == Element::bfloat16;
  const std::uint16_t infinity = bfloat ? kBfloat16.infinity() : kFloat16.infinity();
  result.unwritten = static_cast<std::size_t>(
      std::count_if(result.o.begin(), result.o.end(), [&](std::uint16_t bits) { return (bits & 0x7fff) > infinity; }) +
      std::count_if(result.lse.begin(), result.lse.end(), [](float number) { return std::isnan(number); }));
  return result;
}

}  // namespace draft
