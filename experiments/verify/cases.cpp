#include "experiments/verify/cases.hpp"

#include <algorithm>
#include <random>
#include <set>

#include "experiments/study/run.hpp"

namespace draft {

std::vector<VerifyCase> verify_cases(const Options& options) {
  const auto pools = chosen_or(options.pools, {Pool::average});
  const auto rules = chosen_or(options.rules, {Rule::softmax, Rule::row});
  const auto sparsities = chosen_or(options.sparsities, {0.0, 0.5, 0.9});
  std::vector<VerifyCase> cases;
  for (const RegionSize region :
       chosen_or(options.regions, {RegionSize{8, 16}, RegionSize{8, 8}, RegionSize{16, 16}})) {
    cases.push_back({Keep::uneven, region});
    for (const double sparsity : sparsities) {
      if (sparsity == 0.0) {
        cases.push_back({Keep::all, region});
        continue;
      }
      for (const Pool pool : pools) {
        for (const Rule rule : rules) cases.push_back({Keep::draft, region, pool, rule, sparsity});
      }
    }
  }
  return cases;
}

Json config_of(const VerifyCase& the_case) {
  Json config;
  config["policy"] = the_case.keep == Keep::all ? "dense" : the_case.keep == Keep::draft ? "draft" : "uneven";
  if (the_case.keep == Keep::draft) {
    config["pool"] = to_string(the_case.pool);
    config["rule"] = to_string(the_case.rule);
    config["sparsity"] = the_case.sparsity;
  }
  config["region"] = {the_case.region.height, the_case.region.width};
  return config;
}

BlockMask uneven_mask(Index regions, std::uint64_t seed) {
  std::mt19937_64 random(seed);  // its numbers are the same everywhere
  BlockMask mask(regions, false);
  for (Index row = 0; row < regions; ++row) {
    const std::uint64_t thirds = random() % 4;
    for (Index column = 0; column < regions; ++column) mask.set(row, column, random() % 3 < thirds);
  }
  return mask;
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
