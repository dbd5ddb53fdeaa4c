#include "kernels/mask_pipeline.hpp"

#include <algorithm>

#include "kernels/arguments.hpp"

namespace draft::gpu {
namespace {

Layout with_heads(Layout layout, int heads) {
  layout.heads = heads;
  return layout;
}

/// Of the heads the share whose maps are made in about the time that pooling the others takes; all of them where
/// pooling is over before a second group would pay for its launches.
int suitable_heads(const Layout& layout, int wanted) {
  require_valid(layout);
  if (wanted > 0) return std::min(wanted, layout.heads);
  constexpr std::int64_t kLarge = std::int64_t{128} << 20;  // bytes of Q: 0.03 ms of pooling
  if (layout.heads < 2 || layout.offset(layout.heads, 0) * 2 < kLarge) return layout.heads;
  return (layout.heads * 11 + 19) / 20;
}

std::size_t pooled_size(const Layout& layout) {
  return static_cast<std::size_t>(layout.heads) * layout.regions() * layout.head_dim;
}
/// Where a head's map stands; groups start on 16 bytes.
std::size_t scores_offset(const Layout& layout, int head) {
  return (static_cast<std::size_t>(layout.map_offset(head)) + 3) / 4 * 4;
}

}  // namespace

MaskPipeline::MaskPipeline(const Layout& layout, int first_heads)
    : layout_(layout),
      first_heads_(suitable_heads(layout, first_heads)),
      q_(pooled_size(layout)),
      k_(pooled_size(layout)),
      scores_(scores_offset(layout, layout.heads) + 4),
      workspace_(workspace_bytes(layout)),
      side_workspace_(workspace_bytes(with_heads(layout, first_heads_))),
      status_(static_cast<std::size_t>(layout.heads)) {}

MaskPipeline::Group MaskPipeline::group(int first, int heads, const DeviceBuffer<std::uint8_t>& workspace) const {
  return {first, with_heads(layout_, heads), workspace.data()};
}

float* MaskPipeline::scores_of(const Group& group) const {
  return scores_.data() + scores_offset(layout_, group.first);
}

void MaskPipeline::pool_rows(const MaskCall& call, const Group& group, const void* rows,
                             const DeviceBuffer<float>& pooled, cudaStream_t stream) const {
  const std::int64_t bytes = layout_.offset(group.first, 0) * 2;  // elements have 2
  pool(group.layout, call.element, call.how.pool, static_cast<const std::uint8_t*>(rows) + bytes,
       pooled.data() + pooled_size(with_heads(layout_, group.first)), stream);
}

void MaskPipeline::make_map(const MaskCall& call, const Group& group, cudaStream_t stream) const {
  const std::size_t pooled = pooled_size(with_heads(layout_, group.first));
  if (call.how.rule == Rule::softmax || call.how.rule == Rule::released) {
    draft_probabilities(group.layout, call.how.scale, q_.data() + pooled, k_.data() + pooled, scores_of(group), stream);
  } else {
    draft_logits(group.layout, q_.data() + pooled, k_.data() + pooled, scores_of(group), stream);
  }
}

void MaskPipeline::select(const MaskCall& call, const Group& group, cudaStream_t stream) const {
  find_thresholds(group.layout, call.how.rule, call.how.sparsity, scores_of(group), group.workspace,
                  status_.data() + group.first, stream);
}

void MaskPipeline::write(const MaskCall& call, const Group& group, cudaStream_t stream) const {
  const auto head = static_cast<std::size_t>(group.first), blocks = static_cast<std::size_t>(layout_.blocks());
  const BlockLists& all = call.lists;
  const BlockLists own{all.columns + head * blocks * blocks, all.counts + head * blocks, all.order + head * blocks,
                       all.mask == nullptr ? nullptr : all.mask + layout_.map_offset(group.first)};
  write_lists(group.layout, call.how.rule, scores_of(group), group.workspace, own, stream);
}

void MaskPipeline::pool_group(const MaskCall& call, const Group& group, cudaStream_t stream) const {
  pool_rows(call, group, call.q, q_, stream);
  pool_rows(call, group, call.k, k_, stream);
}

void MaskPipeline::cut_group(const MaskCall& call, const Group& group, cudaStream_t stream) const {
  make_map(call, group, stream);
  select(call, group, stream);
  write(call, group, stream);
}

void MaskPipeline::enqueue(const MaskCall& call, cudaStream_t stream) const {
  require_aligned("MaskPipeline: q", call.q);
  require_aligned("MaskPipeline: k", call.k);
  const int rest = layout_.heads - first_heads_;
  if (rest == 0) {
    const Group all = group(0, layout_.heads, workspace_);
    pool_group(call, all, stream);
    cut_group(call, all, stream);
    return;
  }
  const Group first = group(0, first_heads_, side_workspace_), second = group(first_heads_, rest, workspace_);
  pool_group(call, first, stream);
  pooled_.record(stream);
  pooled_.hold_back(side_.get());
  cut_group(call, first, side_.get());
  cut_.record(side_.get());
  pool_group(call, second, stream);
  cut_group(call, second, stream);
  cut_.hold_back(stream);
}

std::vector<MaskPipeline::Step> MaskPipeline::steps(const MaskCall& call) const {
  const Group all = group(0, layout_.heads, workspace_);
  return {{"pool_q", [=, this](cudaStream_t stream) { pool_rows(call, all, call.q, q_, stream); }},
          {"pool_k", [=, this](cudaStream_t stream) { pool_rows(call, all, call.k, k_, stream); }},
          {"map", [=, this](cudaStream_t stream) { make_map(call, all, stream); }},
          {"select", [=, this](cudaStream_t stream) { select(call, all, stream); }},
          {"lists", [=, this](cudaStream_t stream) { write(call, all, stream); }}};
}

void MaskPipeline::require_fine() const {
  for (const std::int32_t head : status()) {
    if (head != kFine) fail("find_thresholds", "a draft map holds a NaN");
  }
}

}  // namespace draft::gpu
