#include "reference/units.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace draft {
namespace {

constexpr int kComfort = 20;  // with exponents within +-20 squares of logits and of their rounding fit fp32 as well

double largest(const Matrix& rows) { return rows.cwiseAbs().maxCoeff<Eigen::PropagateNaN>(); }

/// The power of two by which to divide a tensor; 0 if its largest number is already near 1.
int exponent_of(const Matrix& rows) {
  const double most = largest(rows);
  if (most == 0.0) return 0;
  const int exponent = std::ilogb(most);
  return std::abs(exponent) <= kComfort ? 0 : exponent;
}

void divide(Matrix& rows, int exponent) {
  if (exponent != 0) rows = rows.unaryExpr([=](double x) { return std::ldexp(x, -exponent); });
}

}  // namespace

double Units::of_logits(double measured) const { return std::ldexp(measured, logit); }
double Units::of_values(double measured) const { return std::ldexp(measured, value); }

std::optional<Normalised> normalised(const Problem& problem) {
  const int q = exponent_of(problem.q), k = exponent_of(problem.k), v = exponent_of(problem.v);
  if (q == 0 && k == 0 && v == 0) return std::nullopt;
  Normalised result{problem, {q + k, v}};
  divide(result.problem.q, q);
  divide(result.problem.k, k);
  divide(result.problem.v, v);
  // With a scale below the smallest normal number every scaled logit is 0 anyway.
  result.problem.scale = std::max(std::ldexp(problem.scale, q + k), std::numeric_limits<double>::min());
  return result;
}

void require_measurable(const Problem& problem) {
  const double q = largest(problem.q), k = largest(problem.k), v = largest(problem.v);
  for (const auto& [name, most] : {std::pair{"q", q}, {"k", k}, {"v", v}}) {
    if (!std::isfinite(most)) {
      throw std::invalid_argument(fmt::format("{}: {} must be finite, found {}", problem.source, name, most));
    }
  }
  // Compared as base-2 logarithms, because the products themselves may overflow.
  constexpr double kMost = 1023.0;
  const double multiple = 8.0 * static_cast<double>(problem.head_dim()) * static_cast<double>(problem.grid.tokens());
  const double logits = std::log2(multiple) + std::log2(q) + std::log2(k);
  if (logits + std::max(0.0, std::log2(problem.scale)) > kMost) {
    throw std::invalid_argument(fmt::format(
        "{}: q and k: logits and the bounds' multiples of them must stay in float64's range, wanted "
        "8 head_dim tokens max|q| max|k| max(1, softmax_scale) below 2^{}, found 2^{:.0f} (max|q| = {:.3g}, "
        "max|k| = {:.3g}, softmax_scale = {:.3g})",
        problem.source, kMost, logits + std::max(0.0, std::log2(problem.scale)), q, k, problem.scale));
  }
  if (std::log2(v) + std::log2(multiple) > kMost) {
    throw std::invalid_argument(
        fmt::format("{}: v: sums of outputs must stay in float64's range, wanted 8 head_dim tokens max|v| below 2^{}, "
                    "found 2^{:.0f} (max|v| = {:.3g})",
                    problem.source, kMost, std::log2(v) + std::log2(multiple), v));
  }
}

}  // namespace draft
