#include "harness/record/schema.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>

#include "harness/options.hpp"
#include "harness/record/record.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

/// A record with escapes, characters of several bytes, every kind of number and literal, and nesting.
Json full_record() {
  Json made = make_record(
      "bounds", {{"dump", "a\"\\\n\t\u00e4\u20ac\U0001f600.h5"}, {"sha256", "ab"}, {"capture", "c"}, {"head", 3}},
      {{"pool", "avg"}, {"region", {8, 16}}, {"sparsity", 0.9}, {"device", "cpu"}},
      {{"a", -1.5e-7}, {"b", std::numeric_limits<double>::denorm_min()}, {"c", kNotApplicable}});
  made["timing"] = {{"samples_ms", {1.0, 2.5}}, {"median_ms", 1.75}, {"l2_flush", 1024}};
  made["notes"] = {{"none", nullptr}, {"list", {1, {2, {3}}}}};
  return made;
}

std::string parsed(const std::string& line) {
  try {
    static_cast<void>(parse_record("r.jsonl", 7, line));
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

std::string with(const std::string& pointer, const Json& value) {
  Json made = full_record();
  made[Json::json_pointer(pointer)] = value;
  return made.dump();
}

std::string without(const std::string& key) {
  Json made = full_record();
  made.erase(key);
  return made.dump();
}

// Given: a record of every kind of value, compact and with spaces. Claim: it is one, and comes back equal, without what
// is left out.
TEST(RecordSchema, WholeRecords) {
  Json made = full_record();
  EXPECT_EQ(parse_record("r.jsonl", 1, made.dump()), made);
  EXPECT_EQ(parse_record("r.jsonl", 1, fmt::format(" {}\r", made.dump(1, ' '))), made);
  const std::string text = made.dump();
  made.erase("notes");
  EXPECT_EQ(parse_record("r.jsonl", 1, text, "notes"), made);
}

// Given: records with one value of another kind. Claim: one line with file, line, field, wanted and found.
TEST(RecordSchema, EveryFieldIsNamed) {
  const std::string at = "r.jsonl: line 7: ", text = "wanted text, found ", object = "wanted an object, found ";
  EXPECT_EQ(parsed(with("/schema", 3)), at + "schema: wanted 2, which this version reads, found the later 3");
  EXPECT_EQ(parsed(with("/schema", 99)), at + "schema: wanted 2, which this version reads, found the later 99");
  EXPECT_EQ(parsed(with("/schema", "1")), at + "schema: wanted 2, found \"1\"");
  EXPECT_EQ(parsed(with("/schema", 0)), at + "schema: wanted 2, found 0");
  EXPECT_EQ(parsed(with("/schema", 1.0)), at + "schema: wanted 2, found 1.0");
  EXPECT_EQ(parsed(with("/schema", true)), at + "schema: wanted 2, found true");
  EXPECT_EQ(parsed(with("/schema", 1)), at + "schema: wanted 2, found 1: draftbench convert makes version 2 of it");
  for (const char* key : {"schema", "experiment", "input", "config", "metrics", "status"}) {
    EXPECT_NE(parsed(without(key)).find(std::string(key) + ": wanted "), std::string::npos) << parsed(without(key));
  }
  for (const char* key : {"run", "timing", "machine", "build", "notes", "time"}) EXPECT_EQ(parsed(without(key)), "");
  EXPECT_EQ(parsed(without("metrics")), at + "metrics: " + object + "no such key");
  EXPECT_EQ(parsed(with("/metrics", Json::object())), "");
  EXPECT_EQ(parsed(with("/experiment", 3)), at + "experiment: wanted a name, found 3");
  EXPECT_EQ(parsed(with("/config", nullptr)), at + "config: " + object + "null");
  EXPECT_EQ(parsed(with("/config", {1, 2})), at + "config: " + object + "a list of 2");
  EXPECT_EQ(parsed(with("/status", "fine")), at + "status: wanted ok, failed or skipped, found \"fine\"");
  EXPECT_EQ(parsed(with("/config/sparsity", "0.9")),
            at + "config.sparsity: wanted a number from 0 to below 1, found \"0.9\"");
  EXPECT_EQ(parsed(with("/config/sparsity", 1.5)),
            at + "config.sparsity: wanted a number from 0 to below 1, found 1.5");
  EXPECT_EQ(parsed(with("/config/sparsity", 1.0)),
            at + "config.sparsity: wanted a number from 0 to below 1, found 1.0");
  EXPECT_EQ(parsed(with("/config/region", {8})),
            at + "config.region: wanted two whole numbers of at least 1, found a list of 1");
  EXPECT_EQ(parsed(with("/config/region", {8, 0})),
            at + "config.region[1]: wanted a whole number of at least 1, found 0");
  EXPECT_EQ(parsed(with("/config/kernel", 5)), at + "config.kernel: " + text + "5");
  EXPECT_EQ(parsed(with("/input/head", -1)),
            at + "input.head: wanted a whole number of at least 0, or a list of them, found -1");
  EXPECT_EQ(parsed(with("/input/head", nullptr)), "");
  const std::string metric = at + "metrics.a: wanted a finite number or \"not_applicable\", found ";
  EXPECT_EQ(parsed(with("/metrics/a", nullptr)), metric + "null");
  EXPECT_EQ(parsed(with("/metrics/a", "high")), metric + "\"high\"");
  EXPECT_EQ(parsed(with("/metrics/a", kNotApplicable)), "");
  EXPECT_EQ(parsed(with("/timing/samples_ms/1", "2")),
            at + "timing.samples_ms[1]: wanted a number above 0, found \"2\"");
  EXPECT_EQ(parsed(with("/timing/samples_ms", 2)), at + "timing.samples_ms: wanted a list of numbers above 0, found 2");
  EXPECT_EQ(parsed(with("/timing/median_ms", "2")),
            at + "timing.median_ms: wanted a finite number above 0, found \"2\"");
  EXPECT_EQ(parsed(with("/reason", 1)), at + "reason: " + text + "1");
  EXPECT_EQ(parsed(with("/metrics/a\x1b[31m\n", nullptr)),
            at + "metrics.a\\x1b[31m\\n: wanted a finite number or \"not_applicable\", found null");
}

// Given: texts that are no JSON, numbers beyond float64, names given twice, deep nesting, other values. Claim: refused,
// with the field; nothing overflows a stack.
TEST(RecordSchema, NoJson) {
  const std::string at = "r.jsonl: line 7: ";
  const auto replaced = [](const std::string& value) {
    std::string line = full_record().dump();
    return line.replace(line.find("-1.5e-07"), 8, value);
  };
  ASSERT_EQ(parsed(replaced("-1.5e-07")), "");
  EXPECT_NE(parsed(replaced("NaN")).find(at + "metrics.a: wanted JSON, found 'NaN' at byte "), std::string::npos);
  const std::string large = at + "metrics.a: wanted a number that float64 holds, found '1";
  EXPECT_TRUE(parsed(replaced("1e400")).starts_with(large)) << parsed(replaced("1e400"));
  EXPECT_TRUE(parsed(replaced(fmt::format("1{:0400}", 0))).starts_with(large));
  EXPECT_EQ(parsed(replaced("1, \"a\": 2")), at + "metrics.a: wanted one such member, found two");
  EXPECT_NE(parsed(replaced("\"\xe9\"")).find("metrics.a: wanted JSON"), std::string::npos);
  EXPECT_NE(parsed(replaced(std::string(1'000'000, '['))).find("wanted at most 32 levels, found more"),
            std::string::npos);
  std::string deep;
  for (int i = 0; i < 1'000'000; ++i) deep.append("{\"a\":");
  EXPECT_NE(parsed(replaced(deep)).find("wanted at most 32 levels, found more"), std::string::npos);
  std::string wide = "{";
  for (int i = 0; i < 20'000; ++i) wide += fmt::format("\"{}\":1,", i);
  EXPECT_NE(parsed(replaced(wide)).find("wanted at most 10000 members, found more"), std::string::npos);
  const std::string none = at + "wanted one JSON object, found ";
  EXPECT_EQ(parsed(""), none + "something else");
  EXPECT_EQ(parsed("hello"), none + "something else");
  EXPECT_EQ(parsed(full_record().dump() + "x"), none + "something else");
  EXPECT_EQ(parsed("[1]"), none + "array");
  EXPECT_EQ(parsed("1"), none + "number");
}

// Given: every beginning of a record, cut at every byte, also inside of characters and escapes. Claim: all but the
// whole one begin a record, and none of them is one.
TEST(RecordSchema, EveryBeginningBeginsARecord) {
  for (const std::string& line : {full_record().dump(), full_record().dump(-1, ' ', true), with("/config/pool", "x")}) {
    for (std::size_t length = 1; length < line.size(); ++length) {
      EXPECT_TRUE(begins_record(line.substr(0, length))) << line.substr(0, length);
      EXPECT_NE(parsed(line.substr(0, length)), "");
    }
    EXPECT_FALSE(begins_record(line));
  }
}

// Given: the beginnings of other things. Claim: none of them begins a record.
TEST(RecordSchema, OtherBeginningsDoNot) {
  const std::string begin = "{\"schema\":2,\"experiment\":\"x\",";
  ASSERT_TRUE(begins_record(begin));
  for (const std::string& text : {std::string(""),
                                  std::string(" "),
                                  std::string("\n"),
                                  std::string("n"),
                                  std::string("notes"),
                                  std::string("["),
                                  std::string("\0", 1),
                                  std::string("{\0", 2),
                                  begin + std::string("\0\0\0", 3),
                                  std::string("\xff\xfe{"),
                                  std::string("{}"),
                                  std::string("{x"),
                                  std::string("{\"s\""),
                                  std::string("{\"schema\":3"),
                                  std::string("{\"schema\":2}"),
                                  std::string("{\"schema\":22"),
                                  std::string("{\"schema\":2,\"title\""),
                                  std::string("{\"context\":{\"date\""),
                                  begin + "}",
                                  begin + "x",
                                  begin + "\"status\":\"fine\",",
                                  begin + "\"config\":[],",
                                  begin + "\"metrics\":{\"a\":NaN",
                                  begin + "\"input\":{\"dump\":\"\xe9\""}) {
    EXPECT_FALSE(begins_record(text)) << text;
  }
}

}  // namespace
}  // namespace draft
