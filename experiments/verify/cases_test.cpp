#include "experiments/verify/cases.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace draft {
namespace {

TEST(VerifyCases, CoverDenseUnevenAndDraftMasksOfEveryRegion) {
  const std::vector<VerifyCase> cases = verify_cases({});
  EXPECT_EQ(cases.size(), 3U * (1 + 1 + 2 * 2));
  const auto count = [&](Keep keep) {
    return std::count_if(cases.begin(), cases.end(), [&](const VerifyCase& one) { return one.keep == keep; });
  };
  EXPECT_EQ(count(Keep::all), 3);
  EXPECT_EQ(count(Keep::uneven), 3);
  Options options;
  options.regions = {{8, 16}};
  options.rules = {Rule::released};
  options.sparsities = {0.75};
  const std::vector<VerifyCase> chosen = verify_cases(options);
  ASSERT_EQ(chosen.size(), 2U);
  EXPECT_EQ(config_of(chosen[1]).dump(),
            R"({"policy":"draft","pool":"avg","rule":"released","sparsity":0.75,"region":[8,16]})");
}

// Claim: the same mask on every machine; rows that keep nothing and rows that keep everything.
TEST(VerifyCases, UnevenMasksHaveEmptyAndFullRows) {
  const BlockMask mask = uneven_mask(40, 3);
  EXPECT_EQ(mask, uneven_mask(40, 3));
  EXPECT_NE(mask, uneven_mask(40, 4));
  EXPECT_GE(mask.empty_rows(), 1);
  Index full = 0;
  for (Index row = 0; row < 40; ++row) full += mask.columns(row).size() == 40 ? 1 : 0;
  EXPECT_GE(full, 1);
}

TEST(VerifyCases, JudgedBlocksHoldTheExtremesAndTheEdges) {
  std::vector<Index> counts(102, 10);
  counts[37] = 2;
  counts[61] = 99;
  counts[100] = counts[101] = 102;  // text
  EXPECT_EQ(judged_blocks(counts, 100, 0).size(), 102U);
  EXPECT_EQ(judged_blocks(counts, 100, 500).size(), 102U);
  const std::vector<Index> some = judged_blocks(counts, 100, 12);
  EXPECT_LE(some.size(), 12U);
  EXPECT_GE(some.size(), 9U);
  EXPECT_TRUE(std::is_sorted(some.begin(), some.end()));
  for (const Index block : {0, 37, 61, 99, 101})
    EXPECT_TRUE(std::binary_search(some.begin(), some.end(), block)) << block;
  EXPECT_EQ(judged_blocks({5}, 1, 32), std::vector<Index>{0});
}

}  // namespace
}  // namespace draft
