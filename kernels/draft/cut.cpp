// How many entries each rule keeps, exactly as the reference counts them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/draft/draft.hpp"

namespace draft::gpu {
namespace {

// As in the reference: products of decimal sparsities closer than this to a whole number are that number.
constexpr double kWholeNumberSlack = 1e-6;

}  // namespace

Cut rule_cut(Rule rule, double sparsity, std::int64_t regions) {
  if (!(sparsity >= 0.0 && sparsity < 1.0)) {
    throw std::invalid_argument("sparsity: wanted at least 0 and below 1, found " + std::to_string(sparsity));
  }
  const std::int64_t entries = rule == Rule::row ? regions : regions * regions;
  const auto blocks = static_cast<double>(entries);
  if (rule == Rule::released) {
    const auto to_go = static_cast<std::int64_t>(std::floor(sparsity * blocks + kWholeNumberSlack));
    return {std::min(entries, entries - to_go + 1), false, true};
  }
  const auto kept = static_cast<std::int64_t>(std::ceil((1.0 - sparsity) * blocks - kWholeNumberSlack));
  return {std::clamp<std::int64_t>(kept, 1, entries), rule == Rule::row, false};
}

}  // namespace draft::gpu
