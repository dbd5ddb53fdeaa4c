// Rule:   whole block rows: as many as the sparsity allows, at least one, spread evenly; every other row is empty.
//         Use: the hardest balance for a kernel.

#include <algorithm>

#include "experiments/policies/policy.hpp"

namespace draft {
namespace {

BlockMask worst_mask(const PolicyInput& input, double sparsity) {
  const Index regions = input.regions, kept = kept_count(sparsity, regions * regions);
  const Index full = std::max<Index>(kept / regions, 1);
  BlockMask mask(regions, false);
  for (Index i = 0; i < full; ++i) {  // spread evenly
    for (Index column = 0; column < regions; ++column) mask.set((2 * i + 1) * regions / (2 * full), column, true);
  }
  return mask;
}

}  // namespace

PolicyRow worst_policy() {
  return {.summary = "whole block rows, all others empty", .made_for_tests = true, .mask = worst_mask};
}

}  // namespace draft
