#pragma once
// A problem's numbers in the 16-bit type that they came from.

#include <cstdint>
#include <vector>

#include "harness/numbers/element.hpp"
#include "reference/problem.hpp"

namespace draft {

/// Q, K and V as bits of one element type, row-major [tokens, head_dim] each.
struct ExactElements {
  Element element = Element::bfloat16;
  std::vector<std::uint16_t> q, k, v;
};

/// Finds the 16-bit type that holds every number of Q, K and V exactly, bfloat16 before float16, and fills
/// `elements`, whose memory is used again. `threads` as in parallel_for. Throws UsageError that names the problem,
/// what was wanted and the first number that is found in neither type.
void exact_elements(const Problem& problem, int threads, ExactElements& elements);

}  // namespace draft
