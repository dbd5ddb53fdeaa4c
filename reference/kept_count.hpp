#pragma once
// How many blocks a sparsity keeps. Without Eigen: kernels/ count by the same functions.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace draft {

/// Decimal sparsities have no exact double: 0.1 * 980100 is 98010.000000000015. Products closer than this to a whole
/// number are that number; block counts stay below 1e9, so rounding stays below 1e-6.
inline constexpr double kWholeNumberSlack = 1e-6;

/// Throws std::invalid_argument unless 0 <= sparsity < 1.
inline void require_sparsity(double sparsity) {
  if (sparsity >= 0.0 && sparsity < 1.0) return;
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, sparsity).ptr;
  throw std::invalid_argument("sparsity: wanted at least 0 and below 1, found " + std::string(digits, end));
}

/// Blocks kept at a sparsity in [0, 1): ceil((1 - sparsity) * blocks), where a product within 1e-6 of a
/// whole number counts as that number (0.1 has no exact double; 0.9 of 980,100 keeps 98,010); at least 1.
inline std::int64_t kept_count(double sparsity, std::int64_t blocks) {
  require_sparsity(sparsity);
  const double kept = (1.0 - sparsity) * static_cast<double>(blocks);
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(std::ceil(kept - kWholeNumberSlack)), 1, blocks);
}

/// The released code's count before ties: blocks - floor(sparsity * blocks) + 1, at most `blocks`
/// (0.9 of 980,100 keeps 98,011).
inline std::int64_t released_kept_count(double sparsity, std::int64_t blocks) {
  require_sparsity(sparsity);
  const auto to_go = static_cast<std::int64_t>(std::floor(sparsity * static_cast<double>(blocks) + kWholeNumberSlack));
  return std::min(blocks, blocks - to_go + 1);
}

}  // namespace draft
