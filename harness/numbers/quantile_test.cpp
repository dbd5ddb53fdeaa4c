#include "harness/numbers/quantile.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

namespace draft {
namespace {

constexpr double kUnit = std::numeric_limits<double>::epsilon();

// Given 1, 2, ..., 11 in any order, claim: quantile q lies at 1 + 10 q; with 10 samples between two of them. An
// interpolation rounds a product, a difference and a sum: three times half a unit of the largest value.
TEST(Quantile, InterpolatesBetweenSamples) {
  const std::vector<double> eleven{11, 3, 7, 1, 9, 5, 2, 8, 10, 4, 6};
  const double tolerance = 3 * 11 * kUnit;
  for (const double share : {0.0, 0.1, 0.25, 0.5, 0.9, 1.0}) {
    EXPECT_LE(std::abs(quantile(eleven, share) - (1 + 10 * share)), tolerance) << share;
  }
  const std::vector<double> ten{10, 20, 30, 40, 50, 60, 70, 80, 90, 100};
  EXPECT_LE(std::abs(quantile(ten, 0.5) - 55), 100 * 3 * kUnit);
  EXPECT_LE(std::abs(quantile(ten, 0.1) - 19), 100 * 3 * kUnit);
  EXPECT_LE(std::abs(quantile(ten, 0.9) - 91), 100 * 3 * kUnit);
  EXPECT_EQ(quantile({7}, 0.9), 7);
  EXPECT_THROW((void)quantile({}, 0.5), std::invalid_argument);
  EXPECT_THROW((void)quantile({1}, 1.5), std::invalid_argument);
  EXPECT_THROW((void)quantile({1}, std::numeric_limits<double>::quiet_NaN()), std::invalid_argument);
}

TEST(Quantile, TheMedianIsTheMiddleSampleOrTheMeanOfTheMiddleTwo) {
  EXPECT_EQ(median({3.0, 1.0, 2.0}), 2.0);
  EXPECT_EQ(median({4.0, 1.0, 2.0, 3.0}), 2.5);
}

}  // namespace
}  // namespace draft
