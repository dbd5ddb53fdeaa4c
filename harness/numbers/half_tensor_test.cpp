#include "harness/numbers/half_tensor.hpp"

#include <gtest/gtest.h>

#include "harness/options.hpp"

namespace draft {
namespace {

// Given a matrix of more than one piece, claim: bits and rounding are those of the element's own conversion, each.
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
