#include "harness/compare/separation.hpp"

#include <algorithm>
#include <cmath>

namespace draft {
namespace {

constexpr double kFamilyLevel = 0.01;  // of a false alarm in any of the cells

/// Rank of the low end from below and of the high end from above, from 1 on.
std::size_t end_rank(std::size_t samples) { return (samples + 9) / 10; }

struct Summary {
  std::size_t count;
  double low, median, high;
  [[nodiscard]] double range() const { return high - low; }
};

Summary summary_of(std::vector<double>& samples) {
  std::sort(samples.begin(), samples.end());
  const std::size_t rank = end_rank(samples.size());
  return {samples.size(), samples[rank - 1], median(samples), samples[samples.size() - rank]};
}

double log_binomial(std::size_t of, std::size_t chosen) {
  const auto log_factorial = [](std::size_t n) { return std::lgamma(static_cast<double>(n) + 1.0); };
  return log_factorial(of) - log_factorial(chosen) - log_factorial(of - chosen);
}

/// The gap that must be between the ends of runs that are separated.
double least_gap(const Summary& fast, const Summary& slow, std::size_t cells) {
  const double chance = separation_chance(fast.count, slow.count) * static_cast<double>(cells);
  return chance <= kFamilyLevel ? 0.0 : std::max(fast.range(), slow.range());
}

bool is_slower(const Summary& fast, const Summary& slow, const ShiftRule& rule) {
  return slow.median > fast.median * rule.ratio && slow.low > fast.high &&
         slow.low - fast.high > least_gap(fast, slow, rule.cells);
}

}  // namespace

Shift shift(std::vector<double> before, std::vector<double> after, const ShiftRule& rule) {
  if (std::min(before.size(), after.size()) < kFewestSamples) return Shift::too_few;
  const Summary old_run = summary_of(before), new_run = summary_of(after);
  if (is_slower(old_run, new_run, rule)) return Shift::slower;
  return is_slower(new_run, old_run, rule) ? Shift::faster : Shift::none;
}

double separating_shift(std::vector<double> below, std::vector<double> above, std::size_t cells) {
  const Summary fast = summary_of(below), slow = summary_of(above);
  return std::max(0.0, fast.high - slow.low + least_gap(fast, slow, cells));
}

double separation_chance(std::size_t below, std::size_t above) {
  // Of all orders of the samples, those in which fewer than `low` of the upper run's precede the lower run's high
  // end, of rank `high`: `k` of them and high - 1 of its own stand before it, the rest behind.
  const std::size_t low = end_rank(above), high = below + 1 - end_rank(below);
  double chance = 0.0;
  for (std::size_t k = 0; k < low; ++k) {
    chance += std::exp(log_binomial(high - 1 + k, k) + log_binomial(below - high + above - k, above - k) -
                       log_binomial(below + above, above));
  }
  return chance;
}

}  // namespace draft
