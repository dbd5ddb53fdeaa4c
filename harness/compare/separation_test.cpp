#include "harness/compare/separation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace draft {
namespace {

constexpr int kSeeds = 20000;
constexpr double kNoise = 0.02;

/// `count` samples of median `middle` with lognormal noise.
std::vector<double> noisy(std::mt19937_64& random, std::size_t count, double middle, double noise = kNoise) {
  std::normal_distribution<double> normal;
  std::vector<double> samples(count);
  for (double& sample : samples) sample = middle * std::exp(noise * normal(random));
  return samples;
}

/// Mean and five standard deviations of the number of seeds in which something of this chance happens.
double most_expected(double chance) { return kSeeds * chance + 5.0 * std::sqrt(kSeeds * chance * (1.0 - chance)); }

/// The chance that at least `wanted` of `count` standard normal numbers are above `z`.
double chance_of_above(std::size_t count, std::size_t wanted, double z) {
  const double one = 0.5 * std::erfc(z / std::sqrt(2.0));
  double sum = 0.0, binomial = 1.0;  // count choose k
  for (std::size_t k = 0; k <= count; ++k) {
    const auto above = static_cast<double>(k), below = static_cast<double>(count - k);
    if (k >= wanted) sum += binomial * std::pow(one, above) * std::pow(1.0 - one, below);
    binomial *= below / (above + 1.0);
  }
  return sum;
}

// Given: every order of the samples of two runs. Claim: the share with the upper run's low end above the lower run's
// high end is the chance. Tolerance: the logarithms of up to three factorials' quotients, each below log(16!) < 31 and
// rounded to a few units, times the number of terms.
TEST(Separation, ChanceIsACount) {
  for (const auto& [below, above] : {std::pair{3, 3}, {5, 5}, {3, 12}, {12, 3}, {11, 5}, {4, 11}, {1, 1}, {8, 8}}) {
    const int all = below + above;
    int separated = 0, orders = 0;
    for (unsigned upper = 0; upper < (1U << all); ++upper) {  // bit i: the i-th smallest is the upper run's
      if (std::popcount(upper) != above) continue;
      ++orders;
      std::vector<int> of_upper, of_lower;
      for (int i = 0; i < all; ++i) ((upper >> i & 1U) != 0 ? of_upper : of_lower).push_back(i);
      const int low_rank = (above + 9) / 10, high_rank = (below + 9) / 10;
      separated += of_upper[low_rank - 1] > of_lower[below - high_rank] ? 1 : 0;
    }
    const double counted = static_cast<double>(separated) / orders;
    const double tolerance = 2 * 9 * 31 * 4 * std::numeric_limits<double>::epsilon() * counted;
    EXPECT_LE(std::abs(separation_chance(below, above) - counted), tolerance) << below << " and " << above;
  }
  EXPECT_NEAR(separation_chance(5, 5), 1.0 / 252.0, 1e-15);
}

// Given: the same samples twice, in any order. Claim: no shift, at any ratio and number of cells.
TEST(Separation, IdenticalRunsNeverShift) {
  std::mt19937_64 random(1);
  for (const std::size_t count : {3, 5, 30}) {
    std::vector<double> samples = noisy(random, count, 1.0, 0.5), shuffled = samples;
    std::shuffle(shuffled.begin(), shuffled.end(), random);
    EXPECT_EQ(shift(samples, shuffled, {1.0, 1}), Shift::none);
    EXPECT_EQ(shift(std::vector<double>(count, 2.0), std::vector<double>(count, 2.0), {1.0, 1}), Shift::none);
  }
}

// Given: two runs of one distribution, over many seeds, and a ratio of 1, so that separation alone protects.
// Claim: no more shifts in either direction than counted orders allow, however wide the noise.
// Negative control: medians alone differ by more than 5% far more often than that.
TEST(Separation, FalseAlarmsStayBelowTheChance) {
  std::mt19937_64 random(2);
  for (const std::size_t count : {3, 5, 11, 30}) {
    int shifts = 0, medians = 0;
    for (int seed = 0; seed < kSeeds; ++seed) {
      const std::vector<double> before = noisy(random, count, 1.0, 0.3), after = noisy(random, count, 1.0, 0.3);
      shifts += shift(before, after, {1.0, 1}) != Shift::none ? 1 : 0;
      medians += median(after) > 1.05 * median(before) ? 1 : 0;
    }
    const double allowed = most_expected(2.0 * separation_chance(count, count));
    EXPECT_LE(shifts, allowed) << count;
    EXPECT_GT(medians, allowed) << count;
  }
}

// Given: families of cells of one distribution. Claim: at most one family in a hundred has a shift.
TEST(Separation, FamilyOfCells) {
  constexpr int kCells = 100;
  std::mt19937_64 random(3);
  int families = 0;
  for (int seed = 0; seed < kSeeds / kCells; ++seed) {
    bool any = false;
    for (int cell = 0; cell < kCells; ++cell) {
      const std::vector<double> before = noisy(random, 10, 1.0, 0.3);
      any = shift(before, noisy(random, 10, 1.0, 0.3), {1.0, kCells}) != Shift::none || any;
    }
    families += any ? 1 : 0;
  }
  constexpr double kMean = 0.01 * kSeeds / kCells;
  EXPECT_LE(families, kMean + 5.0 * std::sqrt(kMean));
}

// Given: noise that stays within 2%. Claim: never a shift, since medians then differ by less than 1.02 / 0.98 < 1.05.
TEST(Separation, BoundedNoiseNeverShifts) {
  std::mt19937_64 random(4);
  std::uniform_real_distribution<double> uniform(1.0 - kNoise, 1.0 + kNoise);
  for (int seed = 0; seed < kSeeds; ++seed) {
    std::vector<double> before(5), after(5);
    for (double& sample : before) sample = uniform(random);
    for (double& sample : after) sample = uniform(random);
    EXPECT_EQ(shift(before, after, {1.05, 1}), Shift::none);
  }
}

// Given: a run that is 10% slower, with 2% noise. Claim: found at least as often as follows from the tails of the two
// ends (on their own sides of the middle between the runs) and of the two medians (5% apart or more); faster the other
// way round. Negative control: with noise of 20% it is not found so often.
TEST(Separation, FindsTenPercent) {
  constexpr double kSlower = 1.1, kRatio = 1.05;
  std::mt19937_64 random(5);
  for (const auto& [count, cells] : {std::pair<std::size_t, std::size_t>{5, 1}, {10, 100}, {30, 1000}}) {
    const std::size_t end = (count + 9) / 10, half = (count + 1) / 2;
    const double z_end = 0.5 * std::log(kSlower) / kNoise, z_median = 0.5 * std::log(kSlower / kRatio) / kNoise;
    const double power = 1.0 - 2.0 * chance_of_above(count, end, z_end) - 2.0 * chance_of_above(count, half, z_median);
    EXPECT_GT(power, 0.8) << count;
    int found = 0, found_in_noise = 0;
    for (int seed = 0; seed < kSeeds; ++seed) {
      const std::vector<double> before = noisy(random, count, 1.0), after = noisy(random, count, kSlower);
      const bool slower = shift(before, after, {kRatio, cells}) == Shift::slower;
      found += slower ? 1 : 0;
      EXPECT_EQ(shift(after, before, {kRatio, cells}) == Shift::faster, slower);
      const std::vector<double> wide = noisy(random, count, 1.0, 0.2);
      found_in_noise += shift(wide, noisy(random, count, kSlower, 0.2), {kRatio, cells}) == Shift::slower ? 1 : 0;
    }
    EXPECT_GE(found, kSeeds - most_expected(1.0 - power)) << count;
    EXPECT_LT(found_in_noise, kSeeds - most_expected(1.0 - power)) << count;
  }
}

// Given: five samples each, separated by less than their range. Claim: a shift of one cell alone, none among a
// thousand, where chance separates some; a wider gap is a shift there too.
TEST(Separation, FewSamplesAmongManyCellsNeedAWiderGap) {
  const std::vector<double> before{1.00, 1.01, 1.02, 1.03, 1.04}, near{1.06, 1.07, 1.08, 1.09, 1.10},
      far{1.20, 1.21, 1.22, 1.23, 1.24};
  EXPECT_EQ(shift(before, near, {1.05, 1}), Shift::slower);
  EXPECT_EQ(shift(before, near, {1.05, 1000}), Shift::none);
  EXPECT_EQ(shift(before, far, {1.05, 1000}), Shift::slower);
}

// Given: samples at two clocks, and a run with more of them at the lower one: its median is 20% larger. Claim: no
// shift.
TEST(Separation, AnotherShareOfTheLowerClockIsSpread) {
  std::vector<double> before(50, 1.0), after(50, 1.2);
  std::fill_n(before.begin(), 15, 1.2);
  std::fill_n(after.begin(), 20, 1.0);
  EXPECT_EQ(shift(before, after, {1.05, 1}), Shift::none);
  EXPECT_EQ(shift(std::vector<double>(50, 1.0), std::vector<double>(50, 1.2), {1.05, 1}), Shift::slower);
}

// Given: two samples on one side. Claim: not judged, whatever they say.
TEST(Separation, TooFew) {
  EXPECT_EQ(shift({1.0, 1.0}, {9.0, 9.0, 9.0}, {}), Shift::too_few);
  EXPECT_EQ(shift({1.0, 1.0, 1.0}, {9.0, 9.0}, {}), Shift::too_few);
  EXPECT_EQ(shift({1.0, 1.0, 1.0}, {9.0, 9.0, 9.0}, {}), Shift::slower);
}

}  // namespace
}  // namespace draft
