#include "experiments/study/exact_elements.hpp"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <bit>
#include <span>
#include <utility>

#include "harness/options.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

constexpr Index kPiece = Index{1} << 16;  // numbers a thread takes at a time

/// Whether the type holds the number, which then has these bits.
template <Element kElement>
bool exact(double value, std::uint16_t& bits) {
  const auto narrow = static_cast<float>(value);
  const auto wide = std::bit_cast<std::uint32_t>(narrow);
  if (static_cast<double>(narrow) != value) return false;  // a NaN too
  if constexpr (kElement == Element::bfloat16) {
    bits = static_cast<std::uint16_t>(wide >> 16);
    return (wide & 0xffffU) == 0;
  }
  const std::uint32_t exponent = wide >> 23 & 0xffU;
  constexpr std::uint32_t kRebias = 127 - 15;
  if (exponent > kRebias && exponent < kRebias + 31) {  // a normal number's exponent: the usual case
    bits = static_cast<std::uint16_t>((wide >> 16 & 0x8000U) | ((wide & 0x7fffffffU) - (kRebias << 23)) >> 13);
    return (wide & 0x1fffU) == 0;
  }
  bits = to_float16(value);
  return from_float16(bits) == value;
}

/// Fills `bits` as far as numbers are exact. Returns the place of the first that is not, or -1.
template <Element kElement>
Index convert(const Matrix& rows, int threads, std::vector<std::uint16_t>& bits) {
  bits.resize(static_cast<std::size_t>(rows.size()));
  std::atomic<Index> wrong{rows.size()};
  parallel_for((rows.size() + kPiece - 1) / kPiece, threads, [&] {
    return [&](Index piece) {
      const Index first = piece * kPiece, last = std::min(rows.size(), first + kPiece);
      Index place = first;
      while (place < last && exact<kElement>(rows.data()[place], bits[static_cast<std::size_t>(place)])) ++place;
      if (place == last) return;
      Index lowest = wrong;
      while (place < lowest && !wrong.compare_exchange_weak(lowest, place)) continue;
    };
  });
  return wrong < rows.size() ? wrong.load() : Index{-1};
}

/// Empty if all numbers are exact, else what was found.
template <Element kElement>
std::string convert_all(const Problem& problem, int threads, ExactElements& elements) {
  const std::array<std::pair<const Matrix*, std::vector<std::uint16_t>*>, 3> tensors{
      {{&problem.q, &elements.q}, {&problem.k, &elements.k}, {&problem.v, &elements.v}}};
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Matrix& rows = *tensors[i].first;
    const Index wrong = convert<kElement>(rows, threads, *tensors[i].second);
    if (wrong >= 0) {
      return fmt::format("{}[{}, {}] = {}", "qkv"[i], wrong / rows.cols(), wrong % rows.cols(), rows.data()[wrong]);
    }
  }
  elements.element = kElement;
  return "";
}

}  // namespace

void exact_elements(const Problem& problem, int threads, ExactElements& elements) {
  const std::string no_bfloat16 = convert_all<Element::bfloat16>(problem, threads, elements);
  if (no_bfloat16.empty()) return;
  const std::string no_float16 = convert_all<Element::float16>(problem, threads, elements);
  if (no_float16.empty()) return;
  throw UsageError(
      fmt::format("{}: --device cuda wants q, k and v that are all exact in bfloat16 or all in float16, found {} (no "
                  "bfloat16) and {} "
                  "(no float16); use --device cpu",
                  problem.source, no_bfloat16, no_float16));
}

}  // namespace draft
