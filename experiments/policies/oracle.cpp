// Rule:   the blocks with the most true attention mass of the head: what no choice of as many blocks can pass. The
//         upper end of the scale.

#include "experiments/policies/policy.hpp"

namespace draft {

PolicyRow oracle_policy() {
  return {.summary = "blocks with the most true attention mass",
          .reads = Reads::head,
          .causal = true,
          .rank = [](const PolicyInput& input) { return rank_blocks(*input.mass, false); },
          .cost = cost_of_all_logits,
          .scores = [](const PolicyInput& input) -> Matrix { return *input.mass; }};
}

}  // namespace draft
