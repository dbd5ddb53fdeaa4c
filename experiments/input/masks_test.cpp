#include "experiments/input/masks.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace draft {
namespace {

TEST(Masks, ChoicesAreThePoliciesAtEveryPoolingAndRuleThatTheyRead) {
  const std::vector pools{Pool::average, Pool::maximum};
  const std::vector rules{Rule::softmax, Rule::row, Rule::logits};
  EXPECT_EQ(mask_choices(Policy::draft, {8, 16}, pools, rules, {0.5, 0.9}).size(), 12U);
  const auto oracle = mask_choices(Policy::oracle, {8, 8}, pools, rules, {0.5, 0.9});
  ASSERT_EQ(oracle.size(), 2U);
  EXPECT_EQ(oracle[1], (MaskChoice{.policy = Policy::oracle, .region = {8, 8}, .sparsity = 0.9}));
}

TEST(Masks, ConfigsNameWhatMattersAndNoMore) {
  Json draft = config_of({Policy::draft, Pool::maximum, Rule::row, {8, 8}, 0.75});
  add_seed(draft, Policy::draft, 7);
  EXPECT_EQ(draft.dump(), R"({"policy":"draft","pool":"max","rule":"row","region":[8,8],"sparsity":0.75})");
  const Json pooled = config_of({.policy = Policy::oracle, .sparsity = 0.5, .remainder = Remainder::pooled});
  EXPECT_EQ(pooled.dump(), R"({"policy":"oracle","region":[8,16],"sparsity":0.5,"remainder":"pooled"})");
  Json uneven = config_of({.policy = Policy::uneven, .region = {8, 16}, .sparsity = 0.9});
  add_seed(uneven, Policy::uneven, 7);
  EXPECT_EQ(uneven.dump(), R"({"policy":"uneven","region":[8,16],"sparsity":0.9,"seed":7})");
}

TEST(Masks, ListsHoldTheMaskTheTextAndTheLongestFirst) {
  const auto masks = policy_masks(Policy::uneven, 3, 20, 0.7, 9);
  const HostLists lists = lists_of(masks, 2);
  const std::size_t blocks = 22;
  ASSERT_EQ(lists.columns.size(), 3 * blocks * blocks);
  ASSERT_EQ(lists.counts.size(), 3 * blocks);
  ASSERT_EQ(lists.order.size(), 3 * blocks);
  for (std::size_t head = 0; head < 3; ++head) {
    for (std::size_t row = 0; row < blocks; ++row) {
      const std::size_t line = head * blocks + row;
      std::vector<Index> wanted(blocks);
      for (std::size_t column = 0; column < blocks; ++column) wanted[column] = static_cast<Index>(column);
      if (row < 20) {
        wanted = masks[head].columns(static_cast<Index>(row));
        wanted.insert(wanted.end(), {20, 21});
      }
      const auto first = lists.columns.begin() + static_cast<std::ptrdiff_t>(line * blocks);
      EXPECT_EQ(std::vector<Index>(first, first + lists.counts[line]), wanted) << head << " " << row;
    }
    const auto own = lists.order.begin() + static_cast<std::ptrdiff_t>(head * blocks);
    const auto count = [&](std::size_t i) { return lists.counts[head * blocks + own[static_cast<std::ptrdiff_t>(i)]]; };
    EXPECT_EQ(std::set<std::uint16_t>(own, own + static_cast<std::ptrdiff_t>(blocks)).size(), blocks);
    for (std::size_t i = 1; i < blocks; ++i) {
      const bool later = own[static_cast<std::ptrdiff_t>(i)] > own[static_cast<std::ptrdiff_t>(i - 1)];
      EXPECT_TRUE(count(i) < count(i - 1) || (count(i) == count(i - 1) && later)) << i;
    }
  }
}

TEST(Masks, CountsAreThoseOfVideoAndText) {
  const auto masks = policy_masks(Policy::worst, 2, 10, 0.75, 1);  // 25 blocks: 2 whole rows
  const KeptCounts kept = kept_counts(lists_of(masks, 3).counts, 2, 10, 3);
  EXPECT_EQ(kept.kept_blocks, 2 * 20);
  EXPECT_EQ(kept.total_blocks(), 2 * 100);
  EXPECT_EQ(kept.all_blocks(), 2 * 169);
  EXPECT_EQ(kept.kept_with_text(), 2 * (20 + 69));
  EXPECT_EQ(kept.empty_rows, 2 * 8);
  EXPECT_EQ(kept.row_blocks_max, 10);
  EXPECT_EQ(kept.row_blocks_mean(), 2.0);
  const KeptCounts dense = dense_counts(2, 10, 3);
  EXPECT_EQ(dense.kept_share(), 1.0);
  EXPECT_EQ(dense.kept_blocks,
            kept_counts(lists_of({BlockMask(10, true), BlockMask(10, true)}, 3).counts, 2, 10, 3).kept_blocks);
}

}  // namespace
}  // namespace draft
