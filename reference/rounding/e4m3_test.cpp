// E4M3's numbers and the weights that codes stand for.

#include "reference/rounding/e4m3.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace draft {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// All numbers of E4M3 that are not negative, by their codes.
std::vector<double> every_e4m3() {
  std::vector<double> all;
  for (int code = 0; code < 127; ++code) {
    const int exponent = code >> 3, mantissa = code & 7;
    all.push_back(exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10));
  }
  return all;
}

// Claim: to_e4m3 is the nearest of all 126 positive numbers of E4M3, the even one of two.
TEST(E4M3, IsTheNearest) {
  const std::vector<double> all = every_e4m3();
  ASSERT_EQ(all.back(), 448.0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(to_e4m3(all[i]), all[i]);
    EXPECT_EQ(to_e4m3(-all[i]), -all[i]);
    if (i + 1 == all.size()) continue;
    const double middle = (all[i] + all[i + 1]) / 2.0;
    EXPECT_EQ(to_e4m3(middle), all[i + i % 2]);
    EXPECT_EQ(to_e4m3(std::nextafter(middle, 0.0)), all[i]);
    EXPECT_EQ(to_e4m3(std::nextafter(middle, 1e3)), all[i + 1]);
  }
  EXPECT_EQ(to_e4m3(250.0), 256.0);
  EXPECT_EQ(to_e4m3(1e6), 448.0);
  EXPECT_EQ(to_e4m3(-kInfinity), -448.0);
  EXPECT_TRUE(std::isnan(to_e4m3(std::numeric_limits<double>::quiet_NaN())));
  EXPECT_EQ(to_e4m3(1e-300), 0.0);
}

// Claim: a log2 of code / 8 - 7 has that code; half way between two the even one; beside that the nearer one; what is
// beyond the codes has the first or the last; NaN stays NaN.
TEST(CodedWeight, HasTheNearestCode) {
  const std::vector<double> all = every_e4m3();
  for (int code = 0; code < 127; ++code) {
    const auto at = static_cast<std::size_t>(code);
    const double log2 = code / 8.0 - 7.0;
    EXPECT_EQ(coded_weight(log2), all[at]) << code;
    if (code == 126) continue;
    const double middle = log2 + 1.0 / 16;
    EXPECT_EQ(coded_weight(middle), all[at + at % 2]) << code;
    EXPECT_EQ(coded_weight(middle - 1e-9), all[at]) << code;
    EXPECT_EQ(coded_weight(middle + 1e-9), all[at + 1]) << code;
  }
  for (const double low : {-7.0625, -8.0, -1e300, -kInfinity}) EXPECT_EQ(coded_weight(low), 0.0) << low;
  for (const double high : {8.8125, 9.0, 1e300, kInfinity}) EXPECT_EQ(coded_weight(high), 448.0) << high;
  EXPECT_TRUE(std::isnan(coded_weight(std::numeric_limits<double>::quiet_NaN())));
}

// Claim: the largest weights, of a logit that the slack is above the shift, are not cut, and kLeastLog2Weight is where
// codes of 8 begin.
TEST(CodedWeight, HasRoomForTheSlack) {
  EXPECT_EQ(coded_weight(kWeightOffset), 288.0);
  EXPECT_EQ(coded_weight(kWeightOffset + kWeightSlack), 448.0);
  EXPECT_EQ(coded_weight(kLeastLog2Weight), std::ldexp(1.0, -6));
  EXPECT_EQ(coded_weight(std::nextafter(kLeastLog2Weight, -10.0)), std::ldexp(7.0, -9));
}

/// Over an octave from `first` on, weights over kCodedMean 2^x: extremes, mean, mean square distance from 1.
struct Spread {
  double least = kInfinity, most = 0.0, mean = 0.0, square = 0.0;
  explicit Spread(double first, double (*weight)(double)) {
    constexpr int kSteps = 1 << 16;
    for (int i = 0; i < kSteps; ++i) {
      const double x = first + (i + 0.5) / kSteps, ratio = weight(x) / (kCodedMean * std::exp2(x));
      least = std::min(least, ratio);
      most = std::max(most, ratio);
      mean += ratio / kSteps;
      square += (ratio - 1.0) * (ratio - 1.0) / kSteps;
    }
  }
};

// Claim: the sizes that eight_bit.hpp gives errors of P, in every octave of normal numbers: the rounding of the sweep
// is 2^-16 of an octave. The mean of eight steps is 3e-4 less than that of the line. What is rounded to the nearest
// number instead is kCodedMean away from it.
TEST(CodedWeight, ErrsByWhatIsExpected) {
  for (double first = kLeastLog2Weight; first < 7.0; first += 1.0) {
    const Spread spread(first, coded_weight);
    EXPECT_NEAR(spread.least, std::exp2(-1.0 / 16) / kCodedMean, 2e-5);
    EXPECT_NEAR(spread.most, 1.5 * std::exp2(-7.0 / 16) / kCodedMean, 2e-5);
    EXPECT_NEAR(spread.mean, 1.0, 4e-4);
    EXPECT_NEAR(spread.square, 9.87e-4, 1e-6);
  }
  const Spread nearest(0.0, [](double x) { return to_e4m3(std::exp2(x)); });
  EXPECT_NEAR(nearest.mean, 1.0 / kCodedMean, 1e-3);
  EXPECT_GT(nearest.square, 2e-3);
}

}  // namespace
}  // namespace draft
