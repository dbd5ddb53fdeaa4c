#pragma once
// Normal random numbers in a 16-bit element type, made fast enough to fill whole attention calls.

#include <cstdint>
#include <vector>

#include "harness/numbers/element.hpp"
#include "reference/problem.hpp"

namespace draft {

/// `count` independent numbers of mean 0 and variance 1, rounded to the element type: the normal distribution's
/// quantiles at (u + 1/2) / 65536 for uniform 16-bit u, so that none is beyond 4.3. Numbers of one seed and stream are
/// the same on every machine that has the same erf, and independent of those of other streams. On all cores. Throws
/// std::invalid_argument unless the element is float16 or bfloat16.
std::vector<std::uint16_t> normal_rows(Index count, std::uint64_t seed, std::uint64_t stream, Element element);

}  // namespace draft
