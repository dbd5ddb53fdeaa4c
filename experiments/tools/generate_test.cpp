#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "experiments/commands.hpp"
#include "harness/dump/dump.hpp"
#include "harness/numbers/element.hpp"
#include "harness/numbers/synthetic.hpp"
#include "harness/record/provenance.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

/// Runs the subcommand; returns the failure's message, empty if there was none.
std::string generate(std::vector<std::string> arguments) {
  CLI::App app("test", "draftbench");
  int status = kExitFine;
  add_command(app, "generate", status);
  arguments.insert(arguments.begin(), "generate");
  std::reverse(arguments.begin(), arguments.end());
  try {
    app.parse(arguments);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

// Given: every kind and element type. Claim: the dump opens and holds the synthetic heads, rounded once.
TEST(Generate, WritesEveryKindAndElement) {
  const TemporaryDirectory directory;
  const std::string file = directory / "x.h5";
  for (const SyntheticKind kind : synthetic_kinds()) {
    for (const Element element : choices_of(kElements)) {
      ASSERT_EQ(generate({to_string(kind), "--out", file, "--grid", "2x8x16", "--text", "3", "--heads", "2",
                          "--kv-heads", "1", "--head-dim", "16", "--seed", "5", "--dtype", to_string(element)}),
                "");
      const Dump dump = Dump::open(file);
      EXPECT_EQ(dump.info().model, "synthetic");
      EXPECT_EQ(dump.info().element, to_string(element));
      EXPECT_EQ(dump.info().kv_heads, 1);
      const Problem read = dump.load(dump.info().capture(to_string(kind)), 1);
      const Problem made = synthetic_head({kind, Grid{2, 8, 16, 3}, 2, 1, 16, 5}, 1);
      EXPECT_EQ(read.q, made.q.unaryExpr([&](double x) { return rounded(x, element); }));
      EXPECT_EQ(read.k, made.k.unaryExpr([&](double x) { return rounded(x, element); }));
      EXPECT_EQ(read.v, made.v.unaryExpr([&](double x) { return rounded(x, element); }));
      EXPECT_EQ(read.scale, 0.25);
    }
  }
}

// Given: the same command twice, in two seconds of the clock, and one with another seed. Claim: the same file to the
// byte, as it holds no time, and another one.
TEST(Generate, SameSeedSameFile) {
  const TemporaryDirectory directory;
  for (const char* name : {"a", "b"}) {
    ASSERT_EQ(generate({"iid", "--out", directory / name, "--grid", "1x4x4", "--seed", "5"}), "");
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  }
  ASSERT_EQ(generate({"iid", "--out", directory / "c", "--grid", "1x4x4", "--seed", "6"}), "");
  EXPECT_EQ(sha256_file(directory / "a"), sha256_file(directory / "b"));
  EXPECT_NE(sha256_file(directory / "a"), sha256_file(directory / "c"));
}

// Given: values that are no good. Claim: one line that names the option, and no file.
TEST(Generate, Refusals) {
  const TemporaryDirectory directory;
  const std::string file = directory / "x.h5";
  const std::pair<std::vector<std::string>, std::string> cases[] = {
      {{"smooth", "--out", file}, "KIND: wanted one of block-smooth"},
      {{"iid", "--out", file, "--grid", "4x16"}, "--grid: wanted FRAMESxHEIGHTxWIDTH, such as 4x16x32, found '4x16'"},
      {{"iid", "--out", file, "--grid", "4x0x16"}, "--grid: wanted"},
      {{"iid", "--out", file, "--grid", "4x4x4x4"}, "--grid: wanted"},
      {{"iid", "--out", file, "--grid", "9000000x9000000x9000000"}, "--grid: wanted at most 10000000 tokens"},
      {{"iid", "--out", file, "--grid", "9000000x9x9"}, "--grid: wanted at most 10000000 tokens"},
      {{"iid", "--out", file, "--heads", "0"}, "--heads: wanted a whole number from 1 to 1024, found '0'"},
      {{"iid", "--out", file, "--heads", "4", "--kv-heads", "3"},
       "--kv-heads: wanted a whole divisor of 4 heads, found 3"},
      {{"iid", "--out", file, "--text", "-1"}, "--text: wanted a whole number from 0 to"},
      {{"iid", "--out", file, "--seed", "-1"}, "--seed: wanted a whole number from 0 to"},
      {{"iid", "--out", file, "--dtype", "int8"},
       "--dtype: wanted float16, bfloat16, float32 or float64, found 'int8'"},
      {{"iid"}, "--out is required"},
      {{"iid", "--out", directory / "none/x.h5"},
       (directory / "none/x.h5").string() + ": file: wanted to write here, found No such file"},
  };
  for (const auto& [arguments, start] : cases) {
    const std::string message = generate(arguments);
    EXPECT_TRUE(message.starts_with(start)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  EXPECT_EQ(directory.files(), 0);
}

}  // namespace
}  // namespace draft
