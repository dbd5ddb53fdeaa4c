#include "harness/numbers/half_tensor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "harness/options.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

constexpr Index kPiece = Index{1} << 16;  // numbers that a thread converts at a time

HalfFormat format_of(Element element) {
  if (element == Element::float16) return kFloat16;
  if (element == Element::bfloat16) return kBfloat16;
  throw std::invalid_argument("half tensor: wanted float16 or bfloat16, found " + to_string(element));
}

/// Calls visit(index) for every number of a matrix, on all cores.
template <typename Visit>
void for_each_number(Index size, Visit visit) {
  parallel_for((size + kPiece - 1) / kPiece, 0, [&] {
    return [&](Index piece) {
      for (Index i = piece * kPiece; i < std::min(size, (piece + 1) * kPiece); ++i) visit(i);
    };
  });
}

}  // namespace

std::vector<std::uint16_t> to_bits(const Matrix& rows, Element element, const std::string& what) {
  const HalfFormat format = format_of(element);
  std::vector<std::uint16_t> bits(static_cast<std::size_t>(rows.size()));
  for_each_number(rows.size(), [&](Index i) {
    const std::uint16_t own = encode_half(rows.data()[i], format);
    if ((own & format.infinity()) == format.infinity()) {
      throw UsageError(
          fmt::format("{}: wanted numbers within the range of {}, found {}", what, to_string(element), rows.data()[i]));
    }
    bits[static_cast<std::size_t>(i)] = own;
  });
  return bits;
}

const std::vector<double>& all_numbers(Element element) {
  const auto make = [](HalfFormat format) {
    std::vector<double> numbers;
    for (int bits = 0; bits <= 0xffff; ++bits) numbers.push_back(decode_half(static_cast<std::uint16_t>(bits), format));
    return numbers;
  };
  static const std::vector<double> float16 = make(kFloat16), bfloat16 = make(kBfloat16);
  return format_of(element).bias() == kFloat16.bias() ? float16 : bfloat16;
}

double from_bits(std::uint16_t bits, Element element) { return all_numbers(element)[bits]; }

Matrix from_bits(const std::vector<std::uint16_t>& bits, Index columns, Element element) {
  const std::vector<double>& numbers = all_numbers(element);
  Matrix rows(static_cast<Index>(bits.size()) / columns, columns);
  std::transform(bits.begin(), bits.end(), rows.data(), [&](std::uint16_t own) { return numbers[own]; });
  return rows;
}

HalfHead to_half(const Problem& problem, Element element) {
  const auto convert = [&](const Matrix& rows, const char* name) {
    const std::string what = problem.source + ": " + name;
    std::vector<std::uint16_t> bits = to_bits(rows, element, what);
    for (Index i = 0; i < rows.size(); ++i) {
      if (from_bits(bits[static_cast<std::size_t>(i)], element) == rows.data()[i]) continue;
      throw UsageError(fmt::format("{}: wanted numbers that {} has, found {} at [{}, {}]", what, to_string(element),
                                   rows.data()[i], i / rows.cols(), i % rows.cols()));
    }
    return bits;
  };
  return {element, convert(problem.q, "q"), convert(problem.k, "k"), convert(problem.v, "v")};
}

void round_to(Matrix& rows, Element element) {
  const HalfFormat format = format_of(element);
  for_each_number(rows.size(),
                  [&](Index i) { rows.data()[i] = decode_half(encode_half(rows.data()[i], format), format); });
}

}  // namespace draft
