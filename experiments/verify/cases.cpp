#include "experiments/verify/cases.hpp"

#include <algorithm>
#include <set>

namespace draft {

std::vector<MaskChoice> verify_cases(const Options& options) {
  const auto pools = chosen_or(options.pools, {Pool::average});
  const auto rules = chosen_or(options.rules, {Rule::softmax, Rule::row});
  const auto sparsities = chosen_or(options.sparsities, {0.0, 0.5, 0.9});
  std::vector<MaskChoice> cases;
  for (const RegionSize region :
       chosen_or(options.regions, {RegionSize{8, 16}, RegionSize{8, 8}, RegionSize{16, 16}})) {
    const auto add = [&](MaskChoice choice) {
      for (const Remainder remainder : chosen_or(options.remainders, {Remainder::none, Remainder::pooled})) {
        choice.remainder = remainder;
        cases.push_back(choice);
      }
    };
    add({.policy = Policy::thirds, .region = region});
    for (const double sparsity : sparsities) {
      if (sparsity == 0.0) {
        cases.push_back({.policy = Policy::dense, .region = region});
        continue;
      }
      for (const Pool pool : pools) {
        for (const Rule rule : rules) {
          add({.policy = Policy::draft, .pool = pool, .rule = rule, .region = region, .sparsity = sparsity});
        }
      }
    }
  }
  return cases;
}

Json case_config(const MaskChoice& the_case) {
  Json config = config_of(the_case);
  if (the_case.policy != Policy::draft) config.erase("sparsity");
  return config;
}

std::vector<Index> judged_blocks(const std::vector<Index>& counts, Index regions, Index wanted) {
  const auto blocks = static_cast<Index>(counts.size());
  std::set<Index> chosen;
  if (wanted > 0 && wanted < blocks) {
    const auto [fewest, most] = std::minmax_element(counts.begin(), counts.begin() + regions);
    chosen = {fewest - counts.begin(), most - counts.begin(), 0, regions - 1, blocks - 1};
    const Index others = std::max<Index>(wanted - static_cast<Index>(chosen.size()), 0);
    for (Index i = 0; i < others; ++i) chosen.insert((2 * i + 1) * blocks / (2 * others));
  } else {
    for (Index block = 0; block < blocks; ++block) chosen.insert(block);
  }
  return {chosen.begin(), chosen.end()};
}

}  // namespace draft
