// Rule:   the blocks with the most true attention mass at an earlier step of the same head, the largest of each row.
// Source: AdaSpa, arXiv 2502.21079; no code of it was found. The mass of all blocks is computed at two search steps (10
//         and 30 of 50), and its mask kept until the next.
// Ours:   blocks of 128 in regions for blocks of 64; the search step is the latest one before that the dump has of this
//         prompt, layer and head (a record's notes name it), and heads without one are left out. Its second search
//         reuses the first one's log-sum-exp; ours is exact. All heads have one sparsity; adaspa_heads gives each its
//         own.

#include "experiments/policies/scores.hpp"

namespace draft {

PolicyRow adaspa_policy() {
  return {.summary = "the oracle of each row at an earlier step of the head (AdaSpa)",
          .reads = Reads::earlier,
          .rank = [](const PolicyInput& input) { return rank_blocks(*input.earlier_mass, true); },
          .cut = cut_of_row,
          .cost = cost_of_all_logits};  // at a search step; between them nothing
}

}  // namespace draft
