#include "harness/dump/head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>
#include <stdexcept>

#include "harness/dump/dump.hpp"
#include "harness/numbers/half_tensor.hpp"

namespace draft {

template <typename Stored, typename Decode>
void DumpHead::copy(double* to, Decode decode) const {
  const auto* first = static_cast<const Stored*>(numbers);
  std::transform(first, first + tokens * head_dim, to, decode);
}

void DumpHead::refuse_memory(std::size_t bytes, const char* type) const {
  throw DumpError(file, fmt::format("{} head {}", path, head),
                  fmt::format("{} bytes of memory for [{}, {}] as {}", bytes, tokens, head_dim, type),
                  "that the system has no more");
}

void DumpHead::refuse_numbers(const Matrix& decoded) const {
  Index bad = 0;
  Index first = 0;
  for (Index i = 0; i < decoded.size(); ++i) {
    if (std::isfinite(decoded.data()[i])) continue;
    if (bad++ == 0) first = i;
  }
  throw DumpError(file, path, "finite numbers",
                  fmt::format("{} NaN or infinite in head {}, the first, {}, at [{}, {}, {}]", bad, head,
                              decoded.data()[first], head, first / head_dim, first % head_dim));
}

Matrix DumpHead::matrix() const {
  Matrix decoded;
  try {
    decoded.resize(tokens, head_dim);
  } catch (const std::bad_alloc&) {
    refuse_memory(sizeof(double) * static_cast<std::size_t>(tokens * head_dim), "float64");
  }
  switch (element) {
    case Element::float16:
    case Element::bfloat16:
      copy<std::uint16_t>(decoded.data(),
                          [own = all_numbers(element).data()](std::uint16_t bits) { return own[bits]; });
      break;
    case Element::float32: copy<float>(decoded.data(), [](float x) { return static_cast<double>(x); }); break;
    case Element::float64: copy<double>(decoded.data(), [](double x) { return x; }); break;
  }
  const double* first = decoded.data();
  const double* end = first + decoded.size();
  if (!std::all_of(first, end, [](double x) { return std::isfinite(x); })) refuse_numbers(decoded);
  return decoded;
}

std::vector<std::uint16_t> DumpHead::bits() const {
  if (element != Element::float16 && element != Element::bfloat16) {
    throw std::invalid_argument("bits: wanted float16 or bfloat16, found " + to_string(element));
  }
  std::vector<std::uint16_t> own;
  try {
    own.resize(static_cast<std::size_t>(tokens * head_dim));
  } catch (const std::bad_alloc&) {
    refuse_memory(sizeof(std::uint16_t) * static_cast<std::size_t>(tokens * head_dim), to_string(element).c_str());
  }
  const auto* first = static_cast<const std::uint16_t*>(numbers);
  std::copy(first, first + own.size(), own.begin());
  const std::uint16_t infinity = (element == Element::float16 ? kFloat16 : kBfloat16).infinity();
  const auto is_finite = [=](std::uint16_t x) { return (x & infinity) != infinity; };
  if (!std::all_of(own.begin(), own.end(), is_finite)) static_cast<void>(matrix());  // which refuses them
  return own;
}

}  // namespace draft
