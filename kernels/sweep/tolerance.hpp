#pragma once
// Tolerances of the sweeps' tests: how far rounding alone may move their numbers from the reference's.

#include <algorithm>
#include <cmath>

#include "kernels/testing/gpu_test.hpp"

namespace draft::gpu {

/// Which of a test's numbers are exact: none; S; S and scale S.
enum class Exact { nothing, logits, exponents };

/// Rounding of the sweeps, u = 2^-24, m = max ||q|| max ||k||. Products of 16-bit numbers are exact; in each step of
/// 16 channels the tensor cores truncate 18 terms at 2 u of the largest: 2.25 head_dim u m for a logit. Means of 32
/// logits and of such means: 64 u m. A weight 2^x has the rounding of x (x > -127; smaller ones underflow), of the
/// scale (2 u scale m), ex2's 4 u, and its sums' at most 18 + 18 roundings of a tile: (128 + 2 scale m) u. The sum that
/// it is divided by has the same error.
struct SweepTolerance {
  double logit;   // absolute, of S
  double mean;    // absolute, of a mean of S
  double weight;  // relative, of P
  double output;  // absolute, 2-norm of a row of O - O^M
  double longest_value;

  explicit SweepTolerance(const Problem& problem, Exact exact = Exact::nothing) {
    const double m = problem.q.rowwise().norm().maxCoeff() * problem.k.rowwise().norm().maxCoeff();
    logit = exact != Exact::nothing ? 0.0 : 2.25 * static_cast<double>(problem.head_dim()) * kRoundoff * m;
    mean = logit + 64.0 * kRoundoff * m;
    const double exponent = exact == Exact::exponents ? 0.0 : 88.0 + 2.0 * problem.scale * m;  // 127 ln 2 = 88
    weight = 2.0 * (problem.scale * logit + (40.0 + exponent) * kRoundoff);
    longest_value = problem.v.rowwise().norm().maxCoeff();
    // Weights with relative error w move a weighted mean by at most 2 w of the longest value. P V of a tile: 8 steps as
    // above, 288 u; P in two halves of 8 bits, 2^-18 = 64 u; sums over tiles and storage, under 32 u. All of it twice,
    // for O and for O^M.
    output = (4.0 * weight + 768.0 * kRoundoff) * longest_value;
  }
};

/// The largest |found - wanted| / allowed so far; infinite after a NaN.
class Worst {
 public:
  void add(double found, double wanted, double allowed) {
    const double ratio = found == wanted ? 0.0 : std::abs(found - wanted) / allowed;
    worst_ = std::isnan(ratio) ? std::numeric_limits<double>::infinity() : std::max(worst_, ratio);
  }
  [[nodiscard]] double ratio() const { return worst_; }

 private:
  double worst_ = 0.0;
};

/// Weights below 2^-126 of a row's largest underflow to 0. In any sum of P they are less than this.
inline constexpr double kVanished = 1e-30;

}  // namespace draft::gpu
