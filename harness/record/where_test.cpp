#include "harness/record/where.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "harness/options.hpp"

namespace draft {
namespace {

const Json kRecord = Json::parse(R"({"schema":2,"experiment":"bounds","status":"ok","input":{"dump":"a.h5","head":0,
  "grid":{"frames":8,"height":32,"width":48}},"config":{"policy":"draft","region":[8,16],"sparsity":0.9,"shape":null},
  "metrics":{"attention_recall":0.75,"relative":"not_applicable"},"timing":{"median_ms":5}})");

bool holds(const std::string& text) {
  const auto conditions = parse_conditions(text);
  return std::ranges::all_of(conditions, [](const Condition& one) { return one.holds(kRecord); });
}

std::string refusal(const std::string& text) {
  try {
    parse_conditions(text);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

// Given: one record. Claim: each kind of value is met by what it is, however a number is written, and by nothing else.
TEST(Where, ValuesAreMetByWhatTheyAre) {
  for (const char* text :
       {"policy=draft", "sparsity=0.90", "sparsity=9e-1", "region=8x16", "head=0", "experiment=bounds",
        "input.grid.frames=8", "config.policy=draft", "median_ms=5.0", "policy=oracle|draft",
        "policy=draft,sparsity=0.9", "policy!=oracle|random", "relative=not_applicable"}) {
    EXPECT_TRUE(holds(text)) << text;
  }
  for (const char* text : {"policy=draf", "sparsity=0.91", "sparsity=0.9x", "region=16x8", "head=", "config.head=0",
                           "policy=draft,sparsity=0.8", "policy!=draft|oracle", "policy=", "frames=8"}) {
    EXPECT_FALSE(holds(text)) << text;
  }
}

// Given: thresholds at, below and above a value. Claim: each order is its own; what is no number is on neither side.
TEST(Where, OrdersOfNumbers) {
  EXPECT_TRUE(holds("attention_recall<=0.75,attention_recall>=0.75,attention_recall<0.76,attention_recall>0.74"));
  for (const char* text : {"attention_recall<0.75", "attention_recall>0.75", "attention_recall<=0.74",
                           "attention_recall>=0.76", "policy<1", "policy>=0", "relative>0", "none<1", "none>=0"}) {
    EXPECT_FALSE(holds(text)) << text;
  }
}

// Given: fields that are null, and that are not there. Claim: both are "null" and unequal to all else.
TEST(Where, NoValueIsNull) {
  EXPECT_TRUE(holds("shape=null,none=null,none!=0,policy!=null"));
  EXPECT_FALSE(holds("head=null"));
  EXPECT_FALSE(holds("none=0"));
}

// Given: texts that are no conditions. Claim: refused, with the text.
TEST(Where, RefusesWhatIsNoCondition) {
  for (const char* text : {"", "policy", "=draft", "policy=draft,", "!", "policy!draft"}) {
    EXPECT_NE(refusal(text).find("--where: wanted FIELD=VALUE"), std::string::npos) << text;
  }
  EXPECT_EQ(refusal("sparsity<high"), "--where: 'sparsity<high': wanted a number behind <, found 'high'");
  EXPECT_EQ(refusal("sparsity>=0.5|0.6"), "--where: 'sparsity>=0.5|0.6': wanted a number behind >=, found '0.5|0.6'");
}

}  // namespace
}  // namespace draft
