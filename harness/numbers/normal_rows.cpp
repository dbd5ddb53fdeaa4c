#include "harness/numbers/normal_rows.hpp"

#include <cmath>
#include <numbers>
#include <stdexcept>

#include "harness/numbers/half_tensor.hpp"
#include "reference/parallel.hpp"
#include "reference/random.hpp"

namespace draft {
namespace {

constexpr Index kLevels = 65536;
constexpr Index kPiece = 1 << 18;  // numbers that a thread makes at a time: whole 64-bit random words

/// The p-quantile of the normal distribution, 0 < p < 1, by Newton's method on the logarithm of its distribution
/// function. The logarithm is concave, so that steps from the left never overshoot.
double normal_quantile(double p) {
  if (p > 0.5) return -normal_quantile(1.0 - p);
  double x = -5.0;
  for (int step = 0; step < 60; ++step) {
    const double below = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    const double density = std::exp(-0.5 * x * x) / std::sqrt(2.0 * std::numbers::pi);
    const double change = below / density * std::log(p / below);
    x += change;
    if (std::abs(change) < 1e-14) break;
  }
  return x;
}

std::vector<std::uint16_t> quantiles(Element element) {
  Matrix numbers(1, kLevels);
  for (Index u = 0; u < kLevels; ++u) {
    numbers(0, u) = normal_quantile((static_cast<double>(u) + 0.5) / static_cast<double>(kLevels));
  }
  return to_bits(numbers, element, "normal quantiles");
}

const std::vector<std::uint16_t>& levels_of(Element element) {
  static const std::vector<std::uint16_t> float16 = quantiles(Element::float16),
                                          bfloat16 = quantiles(Element::bfloat16);
  if (element == Element::float16) return float16;
  if (element == Element::bfloat16) return bfloat16;
  throw std::invalid_argument("normal rows: wanted float16 or bfloat16, found " + to_string(element));
}

}  // namespace

std::vector<std::uint16_t> normal_rows(Index count, std::uint64_t seed, std::uint64_t stream, Element element) {
  const std::vector<std::uint16_t>& levels = levels_of(element);
  const std::uint64_t start = splitmix_output(splitmix64(seed) + stream);
  std::vector<std::uint16_t> numbers(static_cast<std::size_t>(count));
  parallel_for((count + kPiece - 1) / kPiece, 0, [&] {
    return [&](Index piece) {
      std::uint64_t word = 0;
      for (Index i = piece * kPiece; i < std::min(count, (piece + 1) * kPiece); ++i, word >>= 16) {
        if (i % 4 == 0) word = splitmix64(start + static_cast<std::uint64_t>(i / 4) * kSplitMixStep);
        numbers[static_cast<std::size_t>(i)] = levels[word & 0xffff];
      }
    };
  });
  return numbers;
}

}  // namespace draft
