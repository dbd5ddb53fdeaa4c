// What a study's tables say of a group of records.
#include "experiments/study/tables.hpp"

#include <gtest/gtest.h>

#include "harness/record/record.hpp"

namespace draft {
namespace {

std::vector<Record> three_records() {
  std::vector<Record> records;
  for (const double recall : {0.25, 0.125, 0.75}) {
    const Record metrics{{"attention_recall", recall}};
    records.push_back({{"config", {{"policy", recall < 0.5 ? "draft" : "random"}}}, {"metrics", metrics}});
  }
  return records;
}

// Given two records of the group and a smaller and a larger number outside it, claim: mean and least are those of the
// group, exactly (sums of powers of two).
TEST(GroupOfRecords, HasItsMeanAndItsLeast) {
  std::vector<Record> records = three_records();
  const Group draft = with_config({{"policy", "draft"}});
  EXPECT_EQ(mean_metric(records, draft, "attention_recall").number(), 0.1875);
  EXPECT_EQ(least_metric(records, draft, "attention_recall").number(), 0.125);
  EXPECT_EQ(least_metric(records, with_config({{"policy", "random"}}), "attention_recall").number(), 0.75);
}

// Claim: a table has a column of remainders where a record has one, and only there.
TEST(Remainders, HaveAColumnWhereThereAreAny) {
  std::vector<Record> records = three_records();
  EXPECT_EQ(with_remainder(records, {"heads"}), (std::vector<std::string>{"heads"}));
  EXPECT_EQ(with_remainder(records, {"6"}, records[0]["config"]), (std::vector<std::string>{"6"}));
  records[1]["config"]["remainder"] = "pooled";
  EXPECT_EQ(with_remainder(records, {"heads"}), (std::vector<std::string>{"remainder", "heads"}));
  EXPECT_EQ(with_remainder(records, {"6"}, records[0]["config"]), (std::vector<std::string>{"none", "6"}));
  EXPECT_EQ(with_remainder(records, {"7"}, records[1]["config"]), (std::vector<std::string>{"pooled", "7"}));
}

// Claim: of a metric that no record of the group has, both say that it is not applicable.
TEST(GroupOfRecords, WithoutTheMetricHasNeither) {
  const std::vector<Record> records = three_records();
  const Group oracle = with_config({{"policy", "oracle"}});
  EXPECT_FALSE(mean_metric(records, oracle, "attention_recall").applicable());
  EXPECT_FALSE(least_metric(records, oracle, "attention_recall").applicable());
}

}  // namespace
}  // namespace draft
