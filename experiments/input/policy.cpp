#include "experiments/input/policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>

#include "reference/parallel.hpp"

namespace draft {
namespace {

constexpr double kLongest = 3.0;  // of uneven rows, in units of their mean

/// A random order of 0 .. size-1; std::shuffle's is not the same everywhere.
std::vector<Index> shuffled(Index size, std::mt19937_64& random) {
  std::vector<Index> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), Index{0});
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

/// Lengths that grow with the square of their place from 0 to kLongest times their mean, within 1 of that, none above
/// `regions`, and add up to `kept`: [regions], ascending but for roundings.
std::vector<Index> uneven_lengths(Index regions, Index kept) {
  const auto rows = static_cast<double>(regions);
  const auto wanted = [&](Index row, double longest) {
    const double place = (static_cast<double>(row) + 0.5) / rows;
    return std::min(rows, longest * place * place);
  };
  // Where rows are cut at `regions`, the others grow; the first row bounds the scale that makes all of them whole.
  double low = 0.0, high = std::max(4.0 * rows * rows * rows, kLongest);
  for (int step = 0; step < 200; ++step) {
    const double middle = 0.5 * (low + high);
    double total = 0.0;
    for (Index row = 0; row < regions; ++row) total += wanted(row, middle);
    (total <= static_cast<double>(kept) ? low : high) = middle;
  }
  Index whole = 0;
  while (whole < regions && wanted(regions - 1 - whole, high) >= rows) ++whole;
  std::vector<Index> lengths(static_cast<std::size_t>(regions), regions);
  const Index others = regions - whole;
  double through = 0.0;  // of the lengths so far
  for (Index row = 0, given = 0; row < others; ++row) {
    through += wanted(row, high);
    const Index rounded = row + 1 < others ? static_cast<Index>(std::llround(through)) : kept - whole * regions;
    lengths[static_cast<std::size_t>(row)] = std::clamp<Index>(rounded - given, 0, regions);
    given = rounded;
  }
  return lengths;
}

BlockMask uneven_rows_mask(Index regions, Index kept, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const std::vector<Index> lengths = uneven_lengths(regions, kept), rows = shuffled(regions, random);
  BlockMask mask(regions, false);
  for (Index i = 0; i < regions; ++i) {
    const std::vector<Index> columns = shuffled(regions, random);
    for (Index c = 0; c < lengths[static_cast<std::size_t>(i)]; ++c) {
      mask.set(rows[static_cast<std::size_t>(i)], columns[static_cast<std::size_t>(c)], true);
    }
  }
  return mask;
}

BlockMask whole_rows_mask(Index regions, Index kept) {
  const Index full = std::max<Index>(kept / regions, 1);
  BlockMask mask(regions, false);
  for (Index i = 0; i < full; ++i) {  // spread evenly
    for (Index column = 0; column < regions; ++column) mask.set((2 * i + 1) * regions / (2 * full), column, true);
  }
  return mask;
}

BlockMask thirds_mask(Index regions, std::uint64_t seed) {
  std::mt19937_64 random(seed);  // its numbers are the same everywhere
  BlockMask mask(regions, false);
  for (Index row = 0; row < regions; ++row) {
    const std::uint64_t thirds = random() % 4;
    for (Index column = 0; column < regions; ++column) mask.set(row, column, random() % 3 < thirds);
  }
  return mask;
}

}  // namespace

Json config_of(const MaskChoice& mask) {
  Json config{{"policy", to_string(mask.policy)}};
  if (mask.policy == Policy::draft) {
    config["pool"] = to_string(mask.pool);
    config["rule"] = to_string(mask.rule);
  }
  config["region"] = {mask.region.height, mask.region.width};
  config["sparsity"] = mask.sparsity;
  return config;
}

std::string region_text(const Json& region) {
  return fmt::format("{}x{}", region[0].get<Index>(), region[1].get<Index>());
}

void add_seed(Json& config, Policy policy, std::uint64_t seed) {
  const bool by_chance = policy == Policy::random || policy == Policy::uneven || policy == Policy::thirds;
  if (by_chance) config["seed"] = seed;
}

Policy parse_timed_policy(const std::string& text) {
  for (const Policy policy : kTimedPolicies) {
    if (text == to_string(policy)) return policy;
  }
  throw std::invalid_argument(fmt::format("policy: wanted draft, random, uneven or worst, found '{}'", text));
}

std::vector<BlockMask> policy_masks(Policy policy, Index heads, Index regions, double sparsity, std::uint64_t seed) {
  if (policy == Policy::dense || policy == Policy::draft || policy == Policy::oracle) {
    throw std::invalid_argument("policy_masks: wanted random, uneven, worst or thirds, found " + to_string(policy));
  }
  if (!(sparsity >= 0.0 && sparsity < 1.0)) {
    throw std::invalid_argument(fmt::format("policy_masks: wanted 0 <= sparsity < 1, found {}", sparsity));
  }
  const Index kept = kept_count(sparsity, regions * regions);
  std::vector<BlockMask> masks(static_cast<std::size_t>(heads), BlockMask(0, false));
  parallel_for(heads, 0, [&] {
    return [&](Index head) {
      const auto stream = static_cast<std::uint64_t>(head);
      BlockMask& mask = masks[static_cast<std::size_t>(head)];
      if (policy == Policy::random) mask = BlockMask(random_ranking(regions, seed, stream), kept);
      if (policy == Policy::uneven) mask = uneven_rows_mask(regions, kept, seed + stream);
      if (policy == Policy::worst) mask = whole_rows_mask(regions, kept);
      if (policy == Policy::thirds) mask = thirds_mask(regions, seed + stream);
    };
  });
  return masks;
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
