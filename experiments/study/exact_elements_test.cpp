#include "experiments/study/exact_elements.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "harness/numbers/half_tensor.hpp"
#include "harness/options.hpp"
#include "reference/naive.hpp"

namespace draft {
namespace {

Problem rounded_problem(Element element) {
  Problem problem = naive::random_problem({2, 40, 40, 9}, 64, 3.0, 5);  // more than one piece of work
  for (Matrix* rows : {&problem.q, &problem.k, &problem.v}) round_to(*rows, element);
  return problem;
}

void expect_bits(const Problem& problem, const ExactElements& found) {
  EXPECT_EQ(found.q, to_bits(problem.q, found.element, "q"));
  EXPECT_EQ(found.k, to_bits(problem.k, found.element, "k"));
  EXPECT_EQ(found.v, to_bits(problem.v, found.element, "v"));
}

// Given numbers of each type, subnormal ones, zeros and the largest among them, claim: the type is found and its bits
// are those of the number types' own conversion.
TEST(ExactElements, AreTheNumbersBits) {
  ExactElements found;
  for (const Element element : {Element::bfloat16, Element::float16}) {
    Problem problem = rounded_problem(element);
    problem.q(0, 0) = -0.0;
    problem.q(3, 1) = element == Element::float16 ? 65504.0 : 3e38;
    problem.k(5, 2) = element == Element::float16 ? 0x1p-24 : -0x1p-133;
    problem.v(7, 3) = element == Element::float16 ? -0x1.ff8p-15 : 0x1.fep127;
    round_to(problem.q, element);
    exact_elements(problem, 3, found);
    EXPECT_EQ(found.element, element);
    expect_bits(problem, found);
  }
}

// Claim: what neither type holds is refused, with the numbers, wherever it stands.
TEST(ExactElements, RefuseWhatIsExactInNeither) {
  ExactElements found;
  for (const double wrong : {1.0 + 0x1p-11, 1e-9, std::numeric_limits<double>::quiet_NaN(), 1e300}) {
    Problem problem = rounded_problem(Element::bfloat16);
    problem.v(3000, 63) = wrong;
    EXPECT_THROW(exact_elements(problem, 2, found), UsageError) << wrong;
  }
  Problem problem = rounded_problem(Element::bfloat16);
  problem.q(1, 0) = 1.0 + 0x1p-10;  // float16 alone
  problem.k(2, 5) = 0x1p100;        // bfloat16 alone
  try {
    exact_elements(problem, 2, found);
    FAIL() << "the two have no type in common";
  } catch (const UsageError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("q[1, 0] = 1.0009765625 (no bfloat16)"), std::string::npos) << message;
    EXPECT_NE(message.find("k[2, 5] = 1.2676506002282294e+30 (no float16)"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace draft
