#pragma once
// The 2-norm, also of numbers whose squares overflow or underflow.

#include <algorithm>
#include <cmath>

#include "reference/problem.hpp"

namespace draft {

/// By the sum of squares if that neither overflows nor loses digits, else by numbers scaled by the largest. 0 for no
/// numbers.
template <typename Derived>
double safe_norm(const Eigen::MatrixBase<Derived>& numbers) {
  if (numbers.size() == 0) return 0.0;
  const double square = numbers.squaredNorm();
  const bool is_safe = square > 1e-250 && square < 1e250;  // squares that underflow are below 1e-58 of such a sum
  return is_safe || std::isnan(square) ? std::sqrt(square) : numbers.stableNorm();
}

/// The largest 2-norm of a row.
inline double longest_row(const Matrix& rows) {
  double longest = 0.0;
  for (Index r = 0; r < rows.rows(); ++r) longest = std::max(longest, safe_norm(rows.row(r)));
  return longest;
}

}  // namespace draft
