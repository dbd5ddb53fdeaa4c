#include "harness/options.hpp"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cmath>

namespace draft {
namespace {

constexpr OptionSet kAll{
    .dump = true, .captures = true, .pool = true, .region = true, .rule = true, .sparsity = true, .compute = true};

struct Parsed {
  Options options;
  std::string error;  // empty if all went well
};

/// Parses as a subcommand's arguments, the way the program does.
Parsed parse(std::vector<std::string> arguments, OptionSet chosen = kAll) {
  CLI::App app("test", "draftbench");
  CLI::App* command = app.add_subcommand("bounds");
  Parsed result;
  add_options(*command, result.options, chosen);
  arguments.insert(arguments.begin(), "bounds");
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    result.error = error.what();
  }
  return result;
}

// Given: no options. Claim: lists are empty and the rest has its defaults.
TEST(Options, Defaults) {
  const auto [options, error] = parse({"x.h5"});
  EXPECT_EQ(error, "");
  EXPECT_EQ(options.dump, "x.h5");
  EXPECT_TRUE(options.captures.empty() && options.heads.empty() && options.pools.empty() && options.regions.empty() &&
              options.rules.empty() && options.sparsities.empty() && options.out.empty());
  EXPECT_EQ(options.device, "cpu");
  EXPECT_EQ(options.threads, 0);
  EXPECT_EQ(options.seed, 1U);
  EXPECT_FALSE(options.quiet);
}

// Given: every option, lists with commas, the dump after a list. Claim: all values arrive, and the dump is the dump.
TEST(Options, EveryOption) {
  const auto [options, error] =
      parse({"--capture", "a,b",        "--heads", "0,2",        "x.h5",       "--pool",       "avg,max",
             "--region",  "8x16,16x16", "--rule",  "logits,row", "--sparsity", "0.5,0.75,0.9", "--out",
             "r.jsonl",   "--device",   "cpu",     "--threads",  "3",          "--seed",       "18446744073709551615",
             "--quiet"});
  EXPECT_EQ(error, "");
  EXPECT_EQ(options.dump, "x.h5");
  EXPECT_EQ(options.captures, std::vector<std::string>{"a,b"}) << "a dump says whether that is one name or two";
  EXPECT_EQ(split("a,b,"), (std::vector<std::string>{"a", "b", ""}));
  EXPECT_EQ(options.heads, (std::vector<Index>{0, 2}));
  EXPECT_EQ(options.pools, (std::vector<Pool>{Pool::average, Pool::maximum}));
  EXPECT_EQ(options.regions, (std::vector<RegionSize>{{8, 16}, {16, 16}}));
  EXPECT_EQ(options.rules, (std::vector<Rule>{Rule::logits, Rule::row}));
  EXPECT_EQ(options.sparsities, (std::vector<double>{0.5, 0.75, 0.9}));
  EXPECT_EQ(options.out, "r.jsonl");
  EXPECT_EQ(options.threads, 3);
  EXPECT_EQ(options.seed, 18446744073709551615U);
  EXPECT_TRUE(options.quiet);
}

// Given: lists by repetition, some values twice. Claim: the same as with commas, each value once, in order.
TEST(Options, ListsMayBeRepeated) {
  const auto [options, error] =
      parse({"x.h5", "--sparsity", "0.9", "--sparsity", "0,0.9", "--heads", "3", "--heads", "1"});
  EXPECT_EQ(error, "");
  EXPECT_EQ(options.sparsities, (std::vector<double>{0.9, 0.0}));
  EXPECT_EQ(options.heads, (std::vector<Index>{3, 1}));
}

// Given: values out of range or of another kind. Claim: one line with the option, what was wanted and found.
TEST(Options, Refusals) {
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"--sparsity", "0.5,1"}, "--sparsity: wanted a number of at least 0 and below 1, found '1'"},
      {{"--sparsity", "-0.1"}, "--sparsity: wanted a number of at least 0 and below 1, found '-0.1'"},
      {{"--sparsity", "nan"}, "--sparsity: wanted a number of at least 0 and below 1, found 'nan'"},
      {{"--sparsity", "0.5x"}, "--sparsity: wanted a number of at least 0 and below 1, found '0.5x'"},
      {{"--pool", "avg,mean"}, "--pool: wanted avg or max, found 'mean'"},
      {{"--rule", "top"}, "--rule: wanted logits, softmax, released or row, found 'top'"},
      {{"--heads", "0,-1"}, "--heads: wanted a whole number of at least 0, found '-1'"},
      {{"--threads", "-2"}, "--threads: wanted a whole number of at least 0, found '-2'"},
      {{"--threads", "99999999999"}, "--threads: wanted a whole number of at least 0, found '99999999999'"},
      {{"--seed", "-3"}, "--seed: wanted a whole number of at least 0, found '-3'"},
      {{"--device", "tpu"}, "--device: wanted cpu or cuda, found 'tpu'"},
  };
  for (auto [arguments, wanted] : cases) {
    arguments.insert(arguments.begin(), "x.h5");
    EXPECT_EQ(parse(arguments).error, wanted);
  }
  for (const char* region : {"8", "0x16", "8x", "8x16x2"}) {
    const std::string error = parse({"x.h5", "--region", region}).error;
    EXPECT_TRUE(error.starts_with("--region: ")) << error;
    EXPECT_NE(error.find(region), std::string::npos) << error;
  }
  EXPECT_NE(parse({}).error.find("DUMP"), std::string::npos);
  EXPECT_NE(parse({"x.h5", "--unknown", "1"}).error, "");
}

// Given: a share of -0. Claim: it is 0, also in the text of a record.
TEST(Options, NegativeZeroIsZero) {
  const auto [options, error] = parse({"x.h5", "--sparsity", "-0.0,0"});
  EXPECT_EQ(error, "");
  ASSERT_EQ(options.sparsities.size(), 1U);
  EXPECT_FALSE(std::signbit(options.sparsities[0]));
}

// Given: lists with an empty part, and a switch with a value. Claim: refused, by the name of the option.
TEST(Options, EmptyPartsAndValuesOfSwitches) {
  for (const char* list : {"0.5,,0.9", ",0.5", "0.5,", ","}) {
    EXPECT_EQ(parse({"x.h5", "--sparsity", list}).error,
              "--sparsity: wanted a number of at least 0 and below 1, found ''");
  }
  EXPECT_EQ(parse({"x.h5", "--heads", ",", "--quiet"}).error, "--heads: wanted a whole number of at least 0, found ''");
  EXPECT_EQ(parse({"x.h5", "--quiet=3"}).error, "--quiet: wanted no value, found '3'");
  EXPECT_EQ(parse({"x.h5", "--quiet"}).error, "");
}

// Given: numbers and texts of options that a subcommand adds by itself. Claim: one short line with what was wanted.
TEST(Options, OwnNumbersAndLists) {
  const auto error = [](std::vector<std::string> arguments) {
    CLI::App app("test", "draftbench");
    int samples = 1;
    double share = 0.0;
    std::vector<std::string> orders;
    require_whole_number(app.add_option("--samples", samples, ""), 1);
    require_number(app.add_option("--share", share, ""), 0.0, 2.0);
    add_text_list(app, "--order", orders, "", {"token", "region"});
    std::reverse(arguments.begin(), arguments.end());
    try {
      app.parse(arguments);
    } catch (const CLI::ParseError& failure) {
      return std::string(failure.what());
    }
    return std::string();
  };
  EXPECT_EQ(error({"--samples", "3", "--share", "2", "--order", "region,token"}), "");
  for (const char* samples : {"0", "-1", "1e3", "", "3000000000", "nan"}) {
    EXPECT_EQ(error({"--samples", samples}),
              "--samples: wanted a whole number from 1 to 2147483647, found '" + std::string(samples) + "'");
  }
  for (const char* share : {"nan", "inf", "-0.1", "2.1", "half"}) {
    EXPECT_EQ(error({"--share", share}), "--share: wanted a number from 0 to 2, found '" + std::string(share) + "'");
  }
  EXPECT_EQ(error({"--order", "region,sideways"}), "--order: wanted token, region, found 'sideways'");
  EXPECT_EQ(error({"--order", "token,"}), "--order: wanted token, region, found ''");
}

// Given: a subcommand that takes few options. Claim: the others are unknown to it.
TEST(Options, OnlyTheChosenOnes) {
  const OptionSet few{.sparsity = true};
  EXPECT_EQ(parse({"--sparsity", "0.9", "--out", "r", "--seed", "2", "--quiet"}, few).error, "");
  for (const char* name : {"--pool", "--region", "--rule", "--capture", "--heads", "--device", "--threads"}) {
    EXPECT_NE(parse({name, "1"}, few).error, "") << name;
  }
}

}  // namespace
}  // namespace draft
