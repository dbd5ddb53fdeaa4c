// Rule:   as many blocks by chance, one threshold a head: block rows hardly differ in length. The lower end of the
//         scale.

#include "experiments/policies/policy.hpp"

namespace draft {

PolicyRow random_policy() {
  return {.summary = "blocks by chance, --seed: block rows of nearly one length",
          .by_chance = true,
          .causal = true,
          .rank = [](const PolicyInput& input) { return random_ranking(input.regions, input.seed, input.stream); }};
}

}  // namespace draft
