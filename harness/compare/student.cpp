#include "harness/compare/student.hpp"

#include <cmath>
#include <numbers>

namespace draft {
namespace {

constexpr int kSteps = 200;  // of halving an interval: more than a double has bits
constexpr int kMostSummed = 200;

/// The chance of a larger t, by its finite series.
double student_chance(double t, int freedom) {
  const double angle = std::atan2(t, std::sqrt(static_cast<double>(freedom)));
  const double cosine = std::cos(angle), sine = std::sin(angle);
  const bool odd = freedom % 2 == 1;
  double sum = 0.0, term = odd ? cosine : 1.0;
  for (int k = odd ? 3 : 2; k <= freedom; k += 2) {
    sum += term;
    term *= cosine * cosine * (k - 1) / k;
  }
  const double within = odd ? 2.0 / std::numbers::pi * (angle + sine * sum) : sine * sum;
  return 0.5 * (1.0 - within);
}

/// Where a falling function of numbers of at least 0 has this value.
template <typename Function>
double solve(const Function& chance_of, double chance) {
  double low = 0.0, high = 1.0;
  while (chance_of(high) > chance && high < 1e300) high *= 2.0;
  for (int step = 0; step < kSteps && low < high; ++step) {
    const double middle = 0.5 * (low + high);
    if (middle == low || middle == high) break;
    (chance_of(middle) > chance ? low : high) = middle;
  }
  return high;
}

}  // namespace

double normal_upper(double chance) {
  if (chance > 0.5) return -normal_upper(1.0 - chance);
  return solve([](double z) { return 0.5 * std::erfc(z / std::numbers::sqrt2); }, chance);
}

double student_upper(double chance, int freedom) {
  if (freedom <= kMostSummed) return solve([=](double t) { return student_chance(t, freedom); }, chance);
  const double z = normal_upper(chance), v = freedom, z2 = z * z;
  return z + z * ((z2 + 1.0) / (4.0 * v) + (z2 * (5.0 * z2 + 16.0) + 3.0) / (96.0 * v * v) +
                  (z2 * (z2 * (3.0 * z2 + 19.0) + 17.0) - 15.0) / (384.0 * v * v * v) +
                  (z2 * (z2 * (z2 * (79.0 * z2 + 776.0) + 1482.0) - 1920.0) - 945.0) / (92160.0 * v * v * v * v));
}

}  // namespace draft
