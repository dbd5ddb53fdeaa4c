#include "harness/numbers/quantile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>

namespace draft {

double quantile(std::vector<double> samples, double share) {
  if (samples.empty()) throw std::invalid_argument("quantile: wanted at least 1 sample, found none");
  if (!(share >= 0.0 && share <= 1.0)) {
    throw std::invalid_argument(fmt::format("quantile: wanted a share of 0 to 1, found {}", share));
  }
  const double place = share * static_cast<double>(samples.size() - 1);
  const auto below = samples.begin() + static_cast<std::ptrdiff_t>(place);
  std::nth_element(samples.begin(), below, samples.end());
  if (below + 1 == samples.end()) return *below;
  const double above = *std::min_element(below + 1, samples.end());
  return *below + (place - static_cast<double>(below - samples.begin())) * (above - *below);
}

}  // namespace draft
