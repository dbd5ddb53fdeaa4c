// Rule:   the draft's softmaxed map; all blocks of one's own frame and all columns of the first frame always.
// Source: LightX2V's draft attention; ModelTC/LightX2V f8aee98, lightx2v/common/ops/attn/draft_attn.py. Released: as
//         many blocks as the released DraftAttention code keeps at 75%, and the forced ones on top.
// Ours:   at a budget the forced blocks come first, those with the largest entries first.

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr double kReleasedSparsity = 0.75;

BlockMask always(const Partition& partition) {
  const Index a_frame = partition.regions_per_frame();
  BlockMask mask(partition.regions(), false);
  for (Index i = 0; i < partition.regions(); ++i) {
    for (Index j = 0; j < partition.regions(); ++j) mask.set(i, j, j < a_frame || i / a_frame == j / a_frame);
  }
  return mask;
}

}  // namespace

PolicyRow lightx2v_policy() {
  return {.summary = "the draft, one's own frame and the first one always (LightX2V)",
          .reads = Reads::head,
          .rank =
              [](const PolicyInput& input) {
                const DraftMap map = draft_scores(*input.problem, *input.partition, Pool::average);
                return rank_with_forced(map.probabilities(), always(*input.partition));
              },
          .released =
              [](const PolicyInput& input) {
                BlockMask mask = always(*input.partition);
                const BlockMask drafted = select(draft_scores(*input.problem, *input.partition, Pool::average),
                                                 Rule::released, kReleasedSparsity);
                for (Index i = 0; i < input.regions; ++i) {
                  for (const Index j : drafted.columns(i)) mask.set(i, j, true);
                }
                return mask;
              },
          .cost = cost_of_pooled_maps};
}

}  // namespace draft
