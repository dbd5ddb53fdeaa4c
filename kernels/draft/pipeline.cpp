#include "kernels/draft/pipeline.hpp"

#include "kernels/core/arguments.hpp"

namespace draft::gpu {
namespace {

const Layout& valid(const Layout& layout) {
  require_valid(layout);
  return layout;
}

std::size_t pooled_size(const Layout& layout) {
  return static_cast<std::size_t>(layout.heads) * layout.regions() * layout.head_dim;
}

}  // namespace

MaskPipeline::MaskPipeline(const Layout& layout)
    : layout_(valid(layout)),
      q_(pooled_size(layout)),
      k_(pooled_size(layout)),
      scores_(static_cast<std::size_t>(layout.map_offset(layout.heads))),
      workspace_(workspace_bytes(layout)),
      status_(static_cast<std::size_t>(layout.heads)) {}

void MaskPipeline::make_map(const DraftRule& how, cudaStream_t stream) const {
  if (how.rule == Rule::softmax || how.rule == Rule::released) {
    draft_probabilities(layout_, how.scale, q_.data(), k_.data(), scores_.data(), stream);
  } else {
    draft_logits(layout_, q_.data(), k_.data(), scores_.data(), stream);
  }
}

std::vector<MaskPipeline::Step> MaskPipeline::steps(const MaskCall& call) const {
  const DraftRule& how = call.how;
  return {{"pool",
           [this, call](cudaStream_t stream) {
             pool_both(layout_, call.element, call.how.pool, call.q, call.k, q_.data(), k_.data(), stream);
           }},
          {"map", [=, this](cudaStream_t stream) { make_map(how, stream); }},
          {"select",
           [=, this](cudaStream_t stream) {
             find_thresholds(layout_, how.rule, how.sparsity, scores_.data(), workspace_.data(), status_.data(),
                             stream);
           }},
          {"lists", [this, rule = how.rule, lists = call.lists](cudaStream_t stream) {
             write_lists(layout_, rule, scores_.data(), workspace_.data(), lists, stream);
           }}};
}

void MaskPipeline::enqueue(const MaskCall& call, cudaStream_t stream) const {
  for (const Step& step : steps(call)) step.enqueue(stream);
}

void MaskPipeline::require_fine() const {
  for (const std::int32_t head : status()) {
    if (head != kFine) fail("find_thresholds", "a draft map holds a NaN");
  }
}

}  // namespace draft::gpu
