#include "reference/rounding/e4m3.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace draft {
namespace {

constexpr int kDropped = 49;  // of a double's 52 mantissa bits

}  // namespace

double to_e4m3(double x) {
  const double size = std::abs(x);
  double rounded;
  if (size < 1.0 / 64) {
    constexpr double kMagic = 1.5 * (std::int64_t{1} << 43);  // one unit in its last place: 2^-9
    rounded = (size + kMagic) - kMagic;
  } else {
    const auto bits = std::bit_cast<std::uint64_t>(size);
    const std::uint64_t odd = (bits >> kDropped) & 1;
    const std::uint64_t half = (std::uint64_t{1} << (kDropped - 1)) - 1 + odd;
    rounded = std::min(std::bit_cast<double>((bits + half) >> kDropped << kDropped), 448.0);
  }
  return std::isnan(x) ? x : std::copysign(rounded, x);
}

double coded_weight(double log2_weight) {
  if (std::isnan(log2_weight)) return log2_weight;
  const double code = std::clamp(std::nearbyint(8.0 * (log2_weight + 7.0)), 0.0, 126.0);
  if (code < 8.0) return code / 512.0;
  constexpr std::uint64_t kBias = 8 * (1023 - 7);  // between the exponents of a double and of E4M3
  return std::bit_cast<double>((static_cast<std::uint64_t>(code) + kBias) << kDropped);
}

}  // namespace draft
