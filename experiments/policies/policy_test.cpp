#include "experiments/policies/policy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <stdexcept>

#include "experiments/policies/kmeans.hpp"

namespace draft {
namespace {

std::vector<Index> row_lengths(const BlockMask& mask) {
  std::vector<Index> lengths;
  for (Index row = 0; row < mask.regions(); ++row) lengths.push_back(static_cast<Index>(mask.columns(row).size()));
  return lengths;
}

TEST(Policies, AreNamedAndHaveOneWayToChoose) {
  EXPECT_GE(all_policies().size(), 7U);
  for (const Policy policy : all_policies()) {
    EXPECT_EQ(parse_policy(to_string(policy)), policy);
    const PolicyRow& row = row_of(policy);
    EXPECT_NE(row.rank == nullptr, row.mask == nullptr) << to_string(policy);
    EXPECT_TRUE(row.cut == nullptr || row.rank != nullptr) << to_string(policy);
  }
  EXPECT_THROW((void)parse_policy("nobody"), std::invalid_argument);
}

TEST(PolicyMasks, AreOfPoliciesThatReadNothing) {
  EXPECT_THROW((void)policy_masks(Policy::draft, 1, 4, 0.5, 1), std::invalid_argument);
  EXPECT_THROW((void)policy_masks(Policy::oracle, 1, 4, 0.5, 1), std::invalid_argument);
  EXPECT_EQ(policy_masks(Policy::dense, 1, 4, 0.0, 1)[0], BlockMask(4, true));
  EXPECT_THROW((void)policy_masks(Policy::worst, 1, 4, 1.0, 1), std::invalid_argument);
}

TEST(PolicyMasks, KeepWhatTheSparsitySays) {
  for (const Index regions : {1, 2, 7, 64, 100}) {
    for (const double sparsity : {0.1, 0.5, 0.6, 0.75, 0.9, 0.99}) {
      const Index kept = kept_count(sparsity, regions * regions);
      for (const BlockMask& mask : policy_masks(Policy::random, 2, regions, sparsity, 1)) {
        EXPECT_EQ(mask.kept_blocks(), kept) << regions << " " << sparsity;
      }
      for (const BlockMask& mask : policy_masks(Policy::uneven, 2, regions, sparsity, 1)) {
        EXPECT_EQ(mask.kept_blocks(), kept) << regions << " " << sparsity;
      }
      for (const BlockMask& mask : policy_masks(Policy::worst, 2, regions, sparsity, 1)) {
        EXPECT_EQ(mask.kept_blocks(), std::max<Index>(kept / regions, 1) * regions) << regions << " " << sparsity;
      }
    }
  }
}

TEST(PolicyMasks, HeadsDifferAndSeedsRepeat) {
  for (const Policy policy : {Policy::random, Policy::uneven}) {
    const auto masks = policy_masks(policy, 3, 50, 0.8, 5);
    EXPECT_EQ(masks, policy_masks(policy, 3, 50, 0.8, 5));
    EXPECT_NE(masks, policy_masks(policy, 3, 50, 0.8, 6));
    EXPECT_NE(masks[0], masks[1]);
    EXPECT_NE(masks[1], masks[2]);
  }
}

// Given n random blocks a row of n = 200 at 90%, claim: lengths within 6 deviations of a binomial's mean; and the
// uneven ones are not, which shows that the check can fail.
TEST(PolicyMasks, RandomRowsHardlyDiffer) {
  const Index regions = 200;
  const double mean = 0.1 * regions, deviation = std::sqrt(mean * 0.9);
  const auto spread = [&](Policy policy) {
    double most = 0;
    for (const BlockMask& mask : policy_masks(policy, 2, regions, 0.9, 1)) {
      for (const Index length : row_lengths(mask)) most = std::max(most, std::abs(static_cast<double>(length) - mean));
    }
    return most;
  };
  EXPECT_LE(spread(Policy::random), 6 * deviation);
  EXPECT_GT(spread(Policy::uneven), 6 * deviation);
}

// Claim: lengths run from 0 to 3 times their mean within the 1 block of rounding, wherever 3 times the mean fits.
TEST(PolicyMasks, UnevenRowsRunFromNothingToThreeTimesTheMean) {
  for (const double sparsity : {0.7, 0.8, 0.9, 0.95}) {
    const Index regions = 180;
    for (const BlockMask& mask : policy_masks(Policy::uneven, 2, regions, sparsity, 3)) {
      const std::vector<Index> lengths = row_lengths(mask);
      const double mean = static_cast<double>(mask.kept_blocks()) / static_cast<double>(regions);
      const auto [shortest, longest] = std::minmax_element(lengths.begin(), lengths.end());
      EXPECT_EQ(*shortest, 0) << sparsity;
      EXPECT_LE(std::abs(static_cast<double>(*longest) - 3 * mean), 1 + 3 * mean / static_cast<double>(regions))
          << sparsity;
    }
  }
  // At 50%, 3 times the mean is more than a row: the longest are whole.
  const std::vector<Index> lengths = row_lengths(policy_masks(Policy::uneven, 1, 180, 0.5, 3)[0]);
  EXPECT_EQ(*std::max_element(lengths.begin(), lengths.end()), 180);
  EXPECT_EQ(*std::min_element(lengths.begin(), lengths.end()), 0);
}

TEST(PolicyMasks, TheWorstKeepsWholeRowsOrNothing) {
  const BlockMask mask = policy_masks(Policy::worst, 1, 64, 0.9, 1)[0];
  const std::vector<Index> lengths = row_lengths(mask);
  EXPECT_EQ(std::set<Index>(lengths.begin(), lengths.end()), (std::set<Index>{0, 64}));
  EXPECT_EQ(std::count(lengths.begin(), lengths.end(), Index{64}), 6);  // of 409 blocks
  EXPECT_EQ(mask.empty_rows(), 58);
}

// Claim: the same mask on every machine; rows that keep nothing and rows that keep everything.
TEST(PolicyMasks, ThirdsHaveEmptyAndFullRows) {
  const auto thirds = [](std::uint64_t seed) { return policy_masks(Policy::thirds, 1, 40, 0.0, seed)[0]; };
  const BlockMask mask = thirds(3);
  EXPECT_EQ(mask, thirds(3));
  EXPECT_NE(mask, thirds(4));
  EXPECT_GE(mask.empty_rows(), 1);
  const std::vector<Index> lengths = row_lengths(mask);
  EXPECT_GE(std::count(lengths.begin(), lengths.end(), Index{40}), 1);
}

// By hand: two groups on a line, from two tokens of one of them.
TEST(KMeans, FindsGroupsFromWhereverItStarts) {
  Matrix rows(6, 1);
  rows << 0, 1, 2, 10, 11, 12;
  for (std::uint64_t key = 0; key < 8; ++key) {
    const std::vector<Index> found = kmeans(rows, 2, 50, 1e-9, key);
    EXPECT_EQ(std::set<Index>(found.begin(), found.begin() + 3).size(), 1U) << key;
    EXPECT_EQ(std::set<Index>(found.begin() + 3, found.end()).size(), 1U) << key;
    EXPECT_NE(found[0], found[5]) << key;
    EXPECT_EQ(found, kmeans(rows, 2, 50, 1e-9, key));
  }
  EXPECT_EQ(kmeans(rows, 1, 50, 1e-9, 1), std::vector<Index>(6, 0));
  EXPECT_EQ(kmeans(Matrix::Zero(4, 2), 3, 50, 1e-9, 1), std::vector<Index>(4, 0));  // equally near: the first
}

// Given a head whose tokens attend to their own frame, and one whose tokens attend to their own place, claim: both
// profiles find the spatial and the temporal band; without differences, the spatial one.
TEST(BandProfile, FindsTheKindOfAHead) {
  const Grid grid{8, 8, 32, 0};
  const auto head_of = [&](Index groups, auto&& group_of) {
    Problem problem{grid, Matrix::Zero(grid.video(), groups), {}, Matrix::Random(grid.video(), 4), 1.0, "test"};
    for (Index token = 0; token < grid.video(); ++token) problem.q(token, group_of(token)) = 4.0;
    problem.k = problem.q;
    return problem;
  };
  const auto kind = [](const Problem& problem, Policy policy) {
    return row_of(policy).choose_layout({.seed = 1, .problem = &problem}, 0.75);
  };
  for (const Policy policy : {Policy::svg, Policy::svg_fair}) {
    EXPECT_EQ(kind(head_of(8, [](Index token) { return token / 256; }), policy), BlockLayout::raster);
    EXPECT_EQ(kind(head_of(64, [](Index token) { return token % 256 / 4; }), policy), BlockLayout::frame_last);
    Problem still = head_of(1, [](Index) { return 0; });
    still.v.setZero();
    EXPECT_EQ(kind(still, policy), BlockLayout::raster);
  }
}

}  // namespace
}  // namespace draft
