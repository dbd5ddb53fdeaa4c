// Rule:   a band of blocks, |i - j| <= w, tokens as they are: the mask of a spatial head.
// Source: Sparse VideoGen, arXiv 2502.01776; svg-project/Sparse-VideoGen 5ce7b01,
//         svg/models/hyvideo/{utils,attention}.py: one band for both kinds of head, which differ in their order of
//         tokens; a head's kind is found from 64 of its rows.
// Ours:   each kind by itself, on every head; w is what meets the budget. svg and svg_fair choose between the two.

#include "experiments/policies/scores.hpp"

namespace draft {

PolicyRow svg_spatial_policy() {
  return {.summary = "blocks near one's own in token order (Sparse VideoGen's spatial heads)",
          .layout = BlockLayout::raster,
          .rank = [](const PolicyInput& input) { return rank_by_distance(input.regions); }};
}

}  // namespace draft
