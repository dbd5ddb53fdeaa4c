// Rule:   blocks by chance, with lengths of block rows from 0 to 3 times their mean (or to the whole row). Use: how
//         well kernels balance rows of unequal length.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "experiments/policies/policy.hpp"

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

BlockMask uneven_mask(const PolicyInput& input, double sparsity) {
  const Index regions = input.regions, kept = kept_count(sparsity, regions * regions);
  std::mt19937_64 random(input.seed + input.stream);
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

}  // namespace

PolicyRow uneven_policy() {
  return {.summary = "block rows of 0 to 3 times their mean length, --seed",
          .by_chance = true,
          .made_for_tests = true,
          .mask = uneven_mask};
}

}  // namespace draft
