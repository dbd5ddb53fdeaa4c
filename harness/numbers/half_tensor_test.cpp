#include "harness/numbers/half_tensor.hpp"

#include <gtest/gtest.h>

#include "harness/options.hpp"
#include "reference/naive.hpp"

namespace draft {
namespace {

// Given a matrix of more than one piece, claim: bits and rounding of every number agree with rounded().
TEST(HalfTensor, IsTheElementsConversion) {
  for (const Element element : {Element::float16, Element::bfloat16}) {
    Matrix rows = Matrix::Random(300, 257) * 40.0;
    rows(0, 0) = 0.0;
    rows(299, 256) = 1e-30;
    const std::vector<std::uint16_t> bits = to_bits(rows, element, "rows");
    const Matrix before = rows;
    round_to(rows, element);
    for (Index i = 0; i < rows.size(); ++i) {
      ASSERT_EQ(rows.data()[i], rounded(before.data()[i], element));
      ASSERT_EQ(rows.data()[i], from_bits(bits[static_cast<std::size_t>(i)], element));
    }
  }
}

// Given a head of each type, subnormal numbers, zeros and the largest among them, claim: its bits stand for it.
TEST(HalfTensor, OfAHeadAreItsNumbers) {
  for (const Element element : {Element::float16, Element::bfloat16}) {
    Problem problem = naive::random_problem({2, 9, 20, 3}, 64, 3.0, 5);
    for (Matrix* rows : {&problem.q, &problem.k, &problem.v}) round_to(*rows, element);
    problem.q(0, 0) = -0.0;
    problem.q(3, 1) = element == Element::float16 ? 65504.0 : 0x1.fep127;
    problem.k(5, 2) = element == Element::float16 ? 0x1p-24 : -0x1p-133;
    const HalfHead half = to_half(problem, element);
    EXPECT_EQ(half.element, element);
    EXPECT_EQ(half.q, to_bits(problem.q, element, "q"));
    EXPECT_EQ(from_bits(half.q, 64, element), problem.q);
    EXPECT_EQ(from_bits(half.k, 64, element), problem.k);
    EXPECT_EQ(from_bits(half.v, 64, element), problem.v);
  }
}

TEST(HalfTensor, OfAHeadThatTheTypeHasNotAreRefused) {
  Problem problem = naive::random_problem({1, 4, 8, 0}, 64, 1.0, 5);
  for (Matrix* rows : {&problem.q, &problem.k, &problem.v}) round_to(*rows, Element::bfloat16);
  problem.k(2, 5) = 1.0 + 0x1p-10;  // float16 alone
  try {
    static_cast<void>(to_half(problem, Element::bfloat16));
    FAIL() << "bfloat16 has no 1 + 2^-10";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "random problem: k: wanted numbers that bfloat16 has, found 1.0009765625 at [2, 5]");
  }
}

TEST(HalfTensor, RefusesWhatDoesNotFit) {
  const Matrix rows = Matrix::Constant(2, 2, 70000.0);
  EXPECT_NO_THROW(static_cast<void>(to_bits(rows, Element::bfloat16, "q")));
  try {
    static_cast<void>(to_bits(rows, Element::float16, "dump.h5: q"));
    FAIL() << "70000 is no float16";
  } catch (const UsageError& error) {
    EXPECT_STREQ(error.what(), "dump.h5: q: wanted numbers within the range of float16, found 70000");
  }
  EXPECT_THROW(static_cast<void>(to_bits(rows, Element::float32, "q")), std::invalid_argument);
}

}  // namespace
}  // namespace draft
