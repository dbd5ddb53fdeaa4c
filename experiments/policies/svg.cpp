// Rule:   svg_spatial's band or svg_temporal's, whichever of two fixed bands |i - j| < floor(1.5 HW / 128), tokens as
//         they are or frames innermost, changes the outputs of 64 rows less (mean square); HW tokens a frame.
// Source: Sparse VideoGen, arXiv 2502.01776; svg-project/Sparse-VideoGen 5ce7b01,
//         svg/models/hyvideo/{utils,attention}.py, get_attention_mask and sample_mse. Released: 64 rows in the scripts,
//         drawn with replacement from the first 10,000 rows alone, in which later frames have none; the profile's bands
//         do not follow the sparsity; of equal errors the spatial kind.
// Ours:   the band that is measured is of blocks and meets the budget. The profile's band is at least one block wide.
//         Text columns are in the profile, as there; all of ours are real text. svg_fair profiles what it measures.

#include <algorithm>

#include "experiments/policies/band_profile.hpp"
#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr Index kFirstRows = 10000;

BlockLayout choose(const PolicyInput& input, double) {
  const Grid& grid = input.problem->grid;
  const Index blocks = blocks_of_row(grid);
  const Index within = std::max<Index>(3 * grid.frame_tokens() / (2 * kRowOfTokens.width), 1);
  const BlockMask band = mask_above(-distances(blocks), -static_cast<double>(within), BlockMask(blocks, false));
  return better_layout_of_band(input, band, std::min(kFirstRows, grid.video()));
}

}  // namespace

PolicyRow svg_policy() {
  return {.summary = "the spatial or the temporal band, by 64 early rows under fixed bands (Sparse VideoGen)",
          .layout = BlockLayout::by_head,
          .choose_layout = choose,
          .reads = Reads::head,
          .by_chance = true,
          .rank = [](const PolicyInput& input) { return rank_by_distance(input.regions); },
          .cost = cost_of_profile};
}

}  // namespace draft
