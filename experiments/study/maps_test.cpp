#include "experiments/study/maps.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/naive.hpp"

namespace draft {
namespace {

constexpr RegionSize kRegion{4, 4};
const Grid kGrid{3, 4, 6, 4};  // regions of 16 and 8 tokens a frame, 72 video tokens and 4 of text

Metrics character(const Problem& problem) { return head_character(HeadStudy(problem, {}, {}, {kRegion}), kRegion); }

double entropy_of(std::initializer_list<double> shares) {
  double entropy = 0.0;
  for (const double p : shares) entropy -= p * std::log(p);
  return entropy;
}

// Given attention that is the same everywhere, claim: shares are those of the tokens. Of 3 frames' 2 regions no two
// shares are alike, so that frame and position cannot stand for each other. 76 terms a row: 1e-13.
TEST(HeadCharacter, OfUniformAttentionIsTheTokensShares) {
  Problem problem = naive::random_problem(kGrid, 8, 1.0, 5);
  problem.q.setZero();
  const Metrics metrics = character(problem);
  EXPECT_NEAR(metric(metrics, "mass_same_region"), (48.0 * 16.0 + 24.0 * 8.0) / (72.0 * 76.0), 1e-13);
  EXPECT_NEAR(metric(metrics, "mass_same_frame"), 24.0 / 76.0, 1e-13);
  EXPECT_NEAR(metric(metrics, "mass_same_position"), (48.0 * 48.0 + 24.0 * 24.0) / (72.0 * 76.0), 1e-13);
  EXPECT_NEAR(metric(metrics, "mass_text"), 4.0 / 76.0, 1e-13);
  const double six = entropy_of({16.0 / 72, 16.0 / 72, 16.0 / 72, 8.0 / 72, 8.0 / 72, 8.0 / 72});
  EXPECT_NEAR(metric(metrics, "effective_blocks"), std::exp(six), 1e-12);
}

// Given keys of text and of the first region with the logit 2 and others with 0, claim: the mass moves there, and
// effective blocks count video alone. e^2 = 7.389.
TEST(HeadCharacter, OfOneHeavyRegion) {
  Problem problem = naive::random_problem(kGrid, 1, 1.0, 5);
  problem.scale = 1.0;
  problem.q.setOnes();
  problem.k.setZero();
  for (Index y = 0; y < 4; ++y) {
    for (Index x = 0; x < 4; ++x) problem.k(kGrid.token(0, y, x), 0) = 2.0;
  }
  problem.k.bottomRows(4).setConstant(2.0);
  const double e = std::exp(2.0), video = 16.0 * e + 56.0, sum = video + 4.0 * e;
  const Metrics metrics = character(problem);
  EXPECT_NEAR(metric(metrics, "mass_text"), 4.0 * e / sum, 1e-13);
  EXPECT_NEAR(metric(metrics, "mass_same_region"), (16.0 * 16.0 * e + 32.0 * 16.0 + 24.0 * 8.0) / (72.0 * sum), 1e-13);
  EXPECT_NEAR(metric(metrics, "mass_same_frame"), (24.0 * (16.0 * e + 8.0) + 48.0 * 24.0) / (72.0 * sum), 1e-13);
  const double blocks =
      entropy_of({16.0 * e / video, 16.0 / video, 16.0 / video, 8.0 / video, 8.0 / video, 8.0 / video});
  EXPECT_NEAR(metric(metrics, "effective_blocks"), std::exp(blocks), 1e-12);
}

}  // namespace
}  // namespace draft
