#pragma once
// exp over an array that reaches 0 for very negative numbers.

#include <Eigen/Dense>
#include <cmath>

namespace draft {

/// exp of every number, in place. Eigen's exp never returns less than e^-708 = 2e-308, so that a sum of vanishing
/// weights would not vanish. If there are such numbers, the C library's exp is used, which returns 0.
template <typename Derived>
void exponentiate(Eigen::ArrayBase<Derived>&& numbers) {
  constexpr double kLowest = -708.0;
  if (numbers.size() > 0 && numbers.minCoeff() < kLowest) {
    numbers = numbers.unaryExpr([](double x) { return std::exp(x); });
  } else {
    numbers = numbers.exp();
  }
}

}  // namespace draft
