// Rule:   the largest entries of the draft map, of the head or of each block row (reference/draft_mask.hpp has the
//         rules). Source: DraftAttention, arXiv 2505.14708, section 3.1.

#include "experiments/policies/policy.hpp"

namespace draft {

PolicyRow draft_policy() {
  return {.summary = "the draft map of the head's own Q and K, --pool and --rule",
          .reads = Reads::draft_map,
          .causal = true,
          .rank = [](const PolicyInput& input) { return rank_by_rule(*input.map, input.rule); },
          .cut = [](const PolicyInput& input, double sparsity) { return rule_cut(*input.map, input.rule, sparsity); },
          .cost = cost_of_pooled_maps,
          .scores = [](const PolicyInput& input) -> Matrix { return input.map->probabilities(); }};
}

}  // namespace draft
