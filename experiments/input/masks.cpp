#include "experiments/input/masks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace draft {
Json config_of(const MaskChoice& mask) {
  Json config{{"policy", to_string(mask.policy)}};
  if (reads_map(mask.policy)) {
    config["pool"] = to_string(mask.pool);
    config["rule"] = to_string(mask.rule);
  }
  config["region"] = {mask.region.height, mask.region.width};
  if (const BlockLayout layout = row_of(mask.policy).layout; layout != BlockLayout::region) {
    config["block_layout"] = to_string(layout);
  }
  if (mask.released) {
    config["budget"] = "released";
  } else {
    config["sparsity"] = mask.sparsity;
    if (mask.by_call) config["budget"] = "call";
  }
  if (mask.remainder != Remainder::none) config["remainder"] = to_string(mask.remainder);
  return config;
}

std::string region_text(const Json& region) {
  return fmt::format("{}x{}", region[0].get<Index>(), region[1].get<Index>());
}

void add_seed(Json& config, Policy policy, std::uint64_t seed) {
  if (row_of(policy).by_chance) config["seed"] = seed;
}

std::vector<MaskChoice> mask_choices(Policy policy, RegionSize region, const std::vector<Pool>& pools,
                                     const std::vector<Rule>& rules, const std::vector<double>& sparsities) {
  std::vector<MaskChoice> choices;
  if (row_of(policy).layout != BlockLayout::region) region = kRowOfTokens;
  for (const Pool pool : reads_map(policy) ? pools : std::vector{Pool::average}) {
    for (const Rule rule : reads_map(policy) ? rules : std::vector{Rule::softmax}) {
      for (const double sparsity : sparsities) {
        choices.push_back({policy, pool, rule, region, sparsity, false, row_of(policy).heads != nullptr});
      }
    }
  }
  return choices;
}

void add_policy_option(CLI::App& command, std::vector<std::string>& policies, const std::string& description,
                       bool (*takes)(Policy policy)) {
  std::vector<std::string> known;
  for (const Policy policy : all_policies()) {
    if (takes(policy)) known.push_back(to_string(policy));
  }
  add_text_list(command, "--policy", policies, description, known);
}

bool is_timed(Policy policy) {
  const PolicyRow& row = row_of(policy);
  return row.takes_sparsity && row.layout == BlockLayout::region &&
         (policy == Policy::draft || row.reads == Reads::nothing);
}

HostLists lists_of(const std::vector<BlockMask>& masks, Index text_blocks) {
  HostLists lists;
  for (const BlockMask& mask : masks) {
    const Index regions = mask.regions(), blocks = regions + text_blocks;
    const auto width = static_cast<std::size_t>(blocks);
    std::vector<std::int32_t> own(width);
    for (Index row = 0; row < blocks; ++row) {
      const std::size_t first = lists.columns.size();
      for (Index column = 0; column < blocks; ++column) {
        if (row >= regions || column >= regions || mask.kept(row, column)) {
          lists.columns.push_back(static_cast<std::uint16_t>(column));
        }
      }
      own[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(lists.columns.size() - first);
      lists.columns.resize(first + width);
    }
    std::vector<std::uint16_t> longest(width);
    std::iota(longest.begin(), longest.end(), std::uint16_t{0});
    std::stable_sort(longest.begin(), longest.end(), [&](std::uint16_t a, std::uint16_t b) { return own[a] > own[b]; });
    lists.order.insert(lists.order.end(), longest.begin(), longest.end());
    lists.counts.insert(lists.counts.end(), own.begin(), own.end());
  }
  return lists;
}

KeptCounts kept_counts(const std::vector<std::int32_t>& counts, Index heads, Index regions, Index text_blocks) {
  KeptCounts kept{heads, regions, text_blocks};
  for (std::size_t line = 0; line < counts.size(); ++line) {
    if (static_cast<Index>(line) % kept.blocks() >= regions) continue;  // text
    const Index own = counts[line] - text_blocks;
    kept.kept_blocks += own;
    kept.empty_rows += own == 0 ? 1 : 0;
    kept.row_blocks_max = std::max(kept.row_blocks_max, own);
  }
  return kept;
}

KeptCounts dense_counts(Index heads, Index regions, Index text_blocks) {
  return {heads, regions, text_blocks, heads * regions * regions, 0, regions};
}

}  // namespace draft
