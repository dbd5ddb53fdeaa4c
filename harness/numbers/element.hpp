#pragma once
// The number types that a dump may hold, and their conversion to and from double: the one place that
// knows the bits of float16 and bfloat16.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "reference/choices.hpp"

namespace draft {

inline std::size_t bytes_of(Element element) {
  return element == Element::float64 ? 8 : element == Element::float32 ? 4 : 2;
}

/// A 16-bit binary floating-point format: one sign bit, then exponent, then fraction.
struct HalfFormat {
  int exponent_bits, fraction_bits;
  [[nodiscard]] constexpr int bias() const { return (1 << (exponent_bits - 1)) - 1; }
  [[nodiscard]] constexpr std::uint16_t infinity() const {
    return static_cast<std::uint16_t>(((1 << exponent_bits) - 1) << fraction_bits);
  }
};
inline constexpr HalfFormat kFloat16{5, 10};
inline constexpr HalfFormat kBfloat16{8, 7};

/// Rounds to the nearest value of the format, ties to even, in one step (never through float). Values that round beyond
/// the largest finite one become infinity; NaN becomes a quiet NaN.
inline std::uint16_t encode_half(double value, HalfFormat format) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const std::uint16_t infinity = format.infinity();
  const double magnitude = std::abs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | infinity | (1 << (format.fraction_bits - 1)));
  if (std::isinf(value)) return static_cast<std::uint16_t>(sign | infinity);
  if (magnitude == 0.0) return sign;
  const int lowest = 1 - format.bias();  // exponent of the smallest normal and of all subnormal numbers
  const int exponent = std::max(std::ilogb(magnitude), lowest);
  if (exponent > format.bias()) return static_cast<std::uint16_t>(sign | infinity);
  // In units of the last place, a normal number includes the leading one: adding it carries into the exponent.
  const auto units = static_cast<int>(std::nearbyint(std::scalbn(magnitude, format.fraction_bits - exponent)));
  return static_cast<std::uint16_t>(sign | (((exponent - lowest) << format.fraction_bits) + units));
}

/// The value of these bits; exact.
inline double decode_half(std::uint16_t bits, HalfFormat format) {
  const int exponent = (bits & 0x7fff) >> format.fraction_bits;
  const int fraction = bits & ((1 << format.fraction_bits) - 1);
  double magnitude = 0.0;
  if (exponent == (1 << format.exponent_bits) - 1) {
    using Limits = std::numeric_limits<double>;
    magnitude = fraction == 0 ? Limits::infinity() : Limits::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::scalbn(fraction, 1 - format.bias() - format.fraction_bits);
  } else {
    magnitude = std::scalbn(fraction + (1 << format.fraction_bits), exponent - format.bias() - format.fraction_bits);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

inline std::uint16_t to_float16(double value) { return encode_half(value, kFloat16); }
inline std::uint16_t to_bfloat16(double value) { return encode_half(value, kBfloat16); }
inline double from_float16(std::uint16_t bits) { return decode_half(bits, kFloat16); }
inline double from_bfloat16(std::uint16_t bits) { return decode_half(bits, kBfloat16); }

/// `value` after it was stored as `element`.
inline double rounded(double value, Element element) {
  switch (element) {
    case Element::float16: return from_float16(to_float16(value));
    case Element::bfloat16: return from_bfloat16(to_bfloat16(value));
    case Element::float32: return static_cast<double>(static_cast<float>(value));
    case Element::float64: return value;
  }
  return value;
}

}  // namespace draft
