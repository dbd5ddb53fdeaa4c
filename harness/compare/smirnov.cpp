#include "harness/compare/smirnov.hpp"

#include <algorithm>
#include <cstddef>

namespace draft {

std::int64_t smirnov_difference(const std::vector<double>& lower, const std::vector<double>& upper, double up) {
  const auto lower_count = static_cast<std::int64_t>(lower.size()),
             upper_count = static_cast<std::int64_t>(upper.size());
  std::int64_t largest = 0, above = 0;  // `above`: of `upper` that are at or below the cut
  for (std::size_t i = 0; i < lower.size(); ++i) {
    if (i + 1 < lower.size() && lower[i + 1] == lower[i]) continue;
    while (above < upper_count && upper[static_cast<std::size_t>(above)] + up <= lower[i]) ++above;
    largest = std::max(largest, static_cast<std::int64_t>(i + 1) * upper_count - above * lower_count);
  }
  return largest;
}

double smirnov_chance(std::int64_t lower, std::int64_t upper, std::int64_t least) {
  // below[j]: of all orders of i samples of `lower` and j of `upper`, the share in which no beginning has the
  // difference.
  std::vector<double> below(static_cast<std::size_t>(upper) + 1, 0.0);
  for (std::int64_t i = 0; i <= lower; ++i) {
    for (std::int64_t j = 0; j <= upper; ++j) {
      double& here = below[static_cast<std::size_t>(j)];
      if (i * upper - j * lower >= least) {
        here = 0.0;
      } else if (i + j == 0) {
        here = 1.0;
      } else {
        const auto of_lower = static_cast<double>(i) / static_cast<double>(i + j);
        here = of_lower * here + (j > 0 ? (1.0 - of_lower) * below[static_cast<std::size_t>(j - 1)] : 0.0);
      }
    }
  }
  return 1.0 - below.back();
}

}  // namespace draft
