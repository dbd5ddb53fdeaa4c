// Rule:   <mean q, mean k> of cubes of tokens, the largest of each row.
// Source: video sparse attention, arXiv 2505.13389; hao-ai-lab/FastVideo 2f3d407, video_sparse_attn.py: cubes of 4 x 4
//         x 4, trained with the model, and a gated coarse attention beside it.
// Ours:   cubes of 4 x 4 x 8 for blocks of 128, on a model that was not trained with it; the mask alone.

#include "experiments/policies/scores.hpp"

namespace draft {

PolicyRow vsa_policy() {
  return {.summary = "mean queries by mean keys of cubes in space and time, top of each row (VSA)",
          .layout = BlockLayout::cube,
          .reads = Reads::head,
          .rank = rank_means_by_row,
          .cut = cut_of_row,
          .cost = cost_of_pooled_maps};
}

}  // namespace draft
