// Rule:   svg_spatial's band or svg_temporal's, whichever changes the outputs of 64 rows less (mean square).
// Source: Sparse VideoGen, as svg.cpp.
// Ours:   the rows are drawn, with replacement, from all frames, and the bands that are compared are the two that would
//         be measured at this budget: what the method's choice can be worth. The same rows see both.

#include "experiments/policies/band_profile.hpp"
#include "experiments/policies/scores.hpp"

namespace draft {
PolicyRow svg_fair_policy() {
  return {.summary = "the same by 64 rows of all frames under the bands that are measured",
          .layout = BlockLayout::by_head,
          .choose_layout =
              [](const PolicyInput& input, double sparsity) {
                const Index blocks = blocks_of_row(input.problem->grid);
                const BlockMask kept(rank_by_distance(blocks), kept_count(sparsity, blocks * blocks));
                return better_layout_of_band(input, kept, input.problem->grid.video());
              },
          .reads = Reads::head,
          .by_chance = true,
          .rank = [](const PolicyInput& input) { return rank_by_distance(input.regions); },
          .cost = cost_of_profile};
}

}  // namespace draft
