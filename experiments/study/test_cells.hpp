#pragma once
// The cells that studies are tested on.

#include <vector>

#include "experiments/study/head.hpp"

namespace draft {

/// Of each region and sparsity: a draft cell of each pooling and rule, then oracle and random; all with bounds.
inline std::vector<Cell> all_cells(const std::vector<RegionSize>& regions,
                                   const std::vector<double>& sparsities = {0.5, 0.9}) {
  std::vector<Cell> cells;
  for (const RegionSize region : regions) {
    for (const double sparsity : sparsities) {
      for (const Pool pool : choices_of(kPools)) {
        for (const Rule rule : choices_of(kRules))
          cells.push_back({{Policy::draft, pool, rule, region, sparsity}, true});
      }
      for (const Policy policy : {Policy::oracle, Policy::random}) {
        cells.push_back({{policy, {}, {}, region, sparsity}, true});
      }
    }
  }
  return cells;
}

}  // namespace draft
