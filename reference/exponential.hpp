#pragma once
// exp over an array, down to 0.

#include <Eigen/Dense>
#include <cmath>

namespace draft {

/// exp of every number, in place. Eigen's own never falls below e^-708 = 2e-308, so that a sum of vanishing weights
/// would not vanish; where there are such numbers the C library's is taken, which goes to 0 as exp does.
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
