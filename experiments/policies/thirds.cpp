// Rule:   blocks by chance, a block row's share of them 0, 1/3, 2/3 or all: rows that keep nothing, too. Use:
//         `verify`, which holds kernels to the reference under it.

#include <random>

#include "experiments/policies/policy.hpp"

namespace draft {
namespace {

BlockMask thirds_mask(const PolicyInput& input, double) {
  const Index regions = input.regions;
  std::mt19937_64 random(input.seed + input.stream);  // its numbers are the same everywhere
  BlockMask mask(regions, false);
  for (Index row = 0; row < regions; ++row) {
    const std::uint64_t thirds = random() % 4;
    for (Index column = 0; column < regions; ++column) mask.set(row, column, random() % 3 < thirds);
  }
  return mask;
}

}  // namespace

PolicyRow thirds_policy() {
  return {.summary = "verify's: a share of 0, 1/3, 2/3 or all of each block row",
          .by_chance = true,
          .takes_sparsity = false,
          .made_for_tests = true,
          .mask = thirds_mask};
}

}  // namespace draft
