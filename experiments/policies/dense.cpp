// Rule:   every block. Nobody chooses.

#include "experiments/policies/policy.hpp"

namespace draft {

PolicyRow dense_policy() {
  return {.summary = "all blocks",
          .takes_sparsity = false,
          .made_for_tests = true,
          .mask = [](const PolicyInput& input, double) { return BlockMask(input.regions, true); }};
}

}  // namespace draft
