#include "harness/numbers/normal_rows.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "harness/numbers/half_tensor.hpp"

namespace draft {
namespace {

struct Moments {
  double mean = 0, variance = 0, fourth = 0, beyond_2 = 0, product = 0;
};

Moments moments(const std::vector<std::uint16_t>& rows, const std::vector<std::uint16_t>& others) {
  Moments sums;
  const double share = 1.0 / static_cast<double>(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double x = from_bits(rows[i], Element::bfloat16);
    sums.mean += share * x;
    sums.variance += share * x * x;
    sums.fourth += share * x * x * x * x;
    sums.beyond_2 += std::abs(x) > 2 ? share : 0;
    sums.product += share * x * from_bits(others[i], Element::bfloat16);
  }
  return sums;
}

// Given n independent normal numbers, claim: their moments are the normal distribution's. Tolerance: five standard
// deviations of a mean of x^k (that of x^k is sqrt(E x^2k - (E x^k)^2)), and rounding: 2^-9, k times for a k-th power.
TEST(NormalRows, HaveTheMomentsOfTheNormalDistribution) {
  constexpr Index kCount = 1 << 20;
  const std::vector<std::uint16_t> rows = normal_rows(kCount, 1, 0, Element::bfloat16);
  const Moments found = moments(rows, normal_rows(kCount, 1, 1, Element::bfloat16));
  const double chance = 5 / std::sqrt(static_cast<double>(kCount)), unit = std::exp2(-9);
  EXPECT_LE(std::abs(found.mean), chance + unit);
  EXPECT_LE(std::abs(found.variance - 1), chance * std::sqrt(2.0) + 2 * unit);
  EXPECT_LE(std::abs(found.fourth - 3), chance * std::sqrt(96.0) + 3 * 4 * unit);
  const double beyond = std::erfc(std::sqrt(2.0));  // numbers near 2 may round across it: density 0.054, on both sides
  EXPECT_LE(std::abs(found.beyond_2 - beyond), chance * std::sqrt(beyond) + 2 * 0.054 * 2 * 2 * unit);
  EXPECT_LE(std::abs(found.product), chance + 2 * unit) << "streams depend on each other";
  const Moments same = moments(rows, rows);  // the check of dependence can fail
  EXPECT_GE(same.product, 0.5);
}

TEST(NormalRows, AreTheSameForTheSameSeedAndNoOther) {
  const auto rows = normal_rows(1000, 3, 2, Element::float16);
  EXPECT_EQ(rows, normal_rows(1000, 3, 2, Element::float16));
  EXPECT_NE(rows, normal_rows(1000, 4, 2, Element::float16));
  EXPECT_NE(rows, normal_rows(1000, 3, 3, Element::float16));
  const auto longer = normal_rows(1003, 3, 2, Element::float16);
  EXPECT_TRUE(std::equal(rows.begin(), rows.end(), longer.begin()));
  EXPECT_THROW((void)normal_rows(1, 1, 1, Element::float32), std::invalid_argument);
}

}  // namespace
}  // namespace draft
