// Rule:   softmax of <mean q, mean k> * scale; in each row the largest blocks with at least tau of the sum, and a
//         window about one's own.
// Source: NABLA, arXiv 2507.13546 (Kandinsky 5); hao-ai-lab/FastVideo, nabla.py. Released: tau 0.9, 0.8 and 0.7 by
//         model (0.9 here), windows of 5 frames and one tile to each side.
// Ours:   the blocks are regions. At a budget all rows share one tau, and the window, which comes first, is one frame
//         to each side: five would be more than a budget of 10% on a short video. Where it is more than the budget its
//         blocks by tau alone stay.

#include <cmath>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr double kReleasedShare = 0.9;
constexpr Index kReleasedFrames = 5;

Matrix scores_of(const PolicyInput& input) {
  return draft_scores(*input.problem, *input.partition, Pool::average).probabilities();
}

BlockMask window(const Partition& partition, Index frames) {
  const auto columns = static_cast<Index>(partition.column_starts().size());
  BlockMask mask(partition.regions(), false);
  const Index a_frame = partition.regions_per_frame();
  const auto near = [](Index a, Index b, Index most) { return std::abs(a - b) <= most; };
  for (Index i = 0; i < partition.regions(); ++i) {
    for (Index j = 0; j < partition.regions(); ++j) {
      mask.set(i, j,
               near(i / a_frame, j / a_frame, frames) && near(i % a_frame / columns, j % a_frame / columns, 1) &&
                   near(i % columns, j % columns, 1));
    }
  }
  return mask;
}

}  // namespace

PolicyRow nabla_policy() {
  return {.summary = "top-p of the draft map and the blocks beside one's own (NABLA)",
          .reads = Reads::head,
          .rank =
              [](const PolicyInput& input) {
                return rank_with_forced(-shares_before(scores_of(input)), window(*input.partition, 1));
              },
          .released =
              [](const PolicyInput& input) {
                return mask_above(-shares_before(scores_of(input)), -kReleasedShare,
                                  window(*input.partition, kReleasedFrames));
              },
          .cost = cost_of_pooled_maps};
}

}  // namespace draft
