#include "experiments/verify/cases.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace draft {
namespace {

TEST(VerifyCases, CoverDenseThirdsAndDraftMasksOfEveryRegion) {
  const std::vector<MaskChoice> cases = verify_cases({});
  EXPECT_EQ(cases.size(), 3U * (2 * 1 + 1 + 2 * 2 * 2));  // all but dense with a remainder too
  const auto count = [&](Policy policy) {
    return std::count_if(cases.begin(), cases.end(), [&](const MaskChoice& one) { return one.policy == policy; });
  };
  EXPECT_EQ(count(Policy::dense), 3);
  EXPECT_EQ(count(Policy::thirds), 2 * 3);
  Options options;
  options.regions = {{8, 16}};
  options.rules = {Rule::released};
  options.sparsities = {0.75};
  options.remainders = {Remainder::none};
  const std::vector<MaskChoice> chosen = verify_cases(options);
  ASSERT_EQ(chosen.size(), 2U);
  EXPECT_EQ(case_config(chosen[0]).dump(), R"({"policy":"thirds","region":[8,16]})");
  EXPECT_EQ(case_config(chosen[1]).dump(),
            R"({"policy":"draft","pool":"avg","rule":"released","region":[8,16],"sparsity":0.75})");
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
