#pragma once
// The 2-norm of numbers whose squares need not exist.

#include <algorithm>
#include <cmath>

#include "reference/problem.hpp"

namespace draft {

/// Through squares where they neither overflow nor lose digits, else scaled by the largest. 0 for no numbers.
template <typename Derived>
double safe_norm(const Eigen::MatrixBase<Derived>& numbers) {
  if (numbers.size() == 0) return 0.0;
  const double square = numbers.squaredNorm();
  const bool is_safe = square > 1e-250 && square < 1e250;  // what underflows beside it is below 1e-58 of it
  return is_safe || std::isnan(square) ? std::sqrt(square) : numbers.stableNorm();
}

/// The largest 2-norm of a row.
inline double longest_row(const Matrix& rows) {
  double longest = 0.0;
  for (Index r = 0; r < rows.rows(); ++r) longest = std::max(longest, safe_norm(rows.row(r)));
  return longest;
}

}  // namespace draft
