#pragma once
// Matrices in the 16-bit element types that kernels take.

#include <cstdint>
#include <vector>

#include "harness/numbers/element.hpp"
#include "reference/problem.hpp"

namespace draft {

/// Rounds to the element type; returns row-major bits. Uses all cores. Throws UsageError that names `what` and the
/// number if one is too large for the type, std::invalid_argument unless the element is float16 or bfloat16.
std::vector<std::uint16_t> to_bits(const Matrix& rows, Element element, const std::string& what);

/// A table of the numbers of all 65,536 bit patterns of a 16-bit element type; a look-up costs a fifth of a conversion.
/// Throws std::invalid_argument unless the element is float16 or bfloat16.
const std::vector<double>& all_numbers(Element element);

/// The number with these bits.
double from_bits(std::uint16_t bits, Element element);

/// The numbers of a tensor's bits, [bits / columns, columns].
Matrix from_bits(const std::vector<std::uint16_t>& bits, Index columns, Element element);

/// A head's tensors as bits of one 16-bit element type, row-major [tokens, head_dim] each.
struct HalfHead {
  Element element = Element::bfloat16;
  std::vector<std::uint16_t> q, k, v;
};

/// The bits of numbers that the element type can hold exactly. Throws UsageError that names the problem, the tensor and
/// the first number that it cannot.
HalfHead to_half(const Problem& problem, Element element);

/// Rounds each number to the element type.
void round_to(Matrix& rows, Element element);

}  // namespace draft
