// How many entries each rule keeps: the same counts as the reference's.

#include <cstdint>

#include "kernels/draft/draft.hpp"
#include "reference/kept_count.hpp"

namespace draft::gpu {

Cut rule_cut(Rule rule, double sparsity, std::int64_t regions) {
  const bool by_row = rule == Rule::row;
  const std::int64_t entries = by_row ? regions : regions * regions;
  if (rule == Rule::released) return {released_kept_count(sparsity, entries), false, true};
  return {kept_count(sparsity, entries), by_row, false};
}

}  // namespace draft::gpu
