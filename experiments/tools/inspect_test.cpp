#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "experiments/commands.hpp"
#include "harness/dump/dump.hpp"
#include "harness/dump/writer.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

struct Ran {
  std::string output;
  std::string error;
};

Ran inspect(std::vector<std::string> arguments) {
  CLI::App app("test", "draftbench");
  int status = kExitFine;
  add_command(app, "inspect", status);
  arguments.insert(arguments.begin(), "inspect");
  std::reverse(arguments.begin(), arguments.end());
  Ran ran;
  testing::internal::CaptureStdout();
  try {
    app.parse(arguments);
  } catch (const std::exception& error) {
    ran.error = error.what();
  }
  ran.output = testing::internal::GetCapturedStdout();
  return ran;
}

class Inspect : public testing::Test {
 protected:
  Inspect() {
    DumpWriter writer(path_, {"tiny", "made by hand", Grid{1, 1, 2, 0}});
    CaptureInfo capture;
    capture.name = "call";
    capture.layer = 7;
    capture.step = 3;
    capture.steps = 20;
    capture.prompt = "a cat";
    writer.add_capture(capture, {2, 1, 2, Element::float32, true, 0});
    const Matrix q{{3.0, -4.0}, {0.0, 1.0}};
    const Matrix k{{2.0, 2.0}, {2.0, 2.0}};
    for (const Index head : {0, 1}) writer.write_head(head, q, k, k, &q);
    writer.finish();
  }
  TemporaryDirectory directory_;
  const std::string path_ = directory_ / "x.h5";
};

// Given: a dump whose statistics are known. Claim: header, capture and one row a tensor of the chosen head.
TEST_F(Inspect, ShowsTheDump) {
  const Ran ran = inspect({path_, "--heads", "1", "--check"});
  EXPECT_EQ(ran.error, "");
  EXPECT_EQ(ran.output, path_ +
                            ": version 1\n"
                            "model     tiny\n"
                            "source    made by hand\n"
                            "grid      1 x 1 x 2 + 0 text = 2 tokens\n"
                            "heads     2 (K and V: 1), head_dim 2\n"
                            "elements  float32\n"
                            "\n"
                            "capture  layer     step  timestep   scale  branch  q, o       k, v       output  prompt\n"
                            "call         7  3 of 20         0  0.7071  -       [2, 2, 2]  [1, 2, 2]  yes     a cat\n"
                            "\n"
                            "capture  head  tensor  min  max   rms  max row norm\n"
                            "call        1  q        -4    3  2.55             5\n"
                            "call        1  k         2    2     2         2.828\n"
                            "call        1  v         2    2     2         2.828\n"
                            "\n"
                            "check: all 2 heads are readable and finite\n");
}

// Given: captures, heads and files that are not there. Claim: one line each.
TEST_F(Inspect, Refusals) {
  EXPECT_EQ(inspect({path_, "--heads", "2"}).error, path_ + ": --heads: wanted 0 to 1, found 2");
  EXPECT_EQ(inspect({path_, "--capture", "x"}).error, path_ + ": capture: wanted one of call, found 'x'");
  EXPECT_EQ(inspect({directory_ / "none.h5"}).error,
            (directory_ / "none.h5").string() + ": file: wanted an HDF5 file, found no such file");
  EXPECT_NE(inspect({path_, "--out", "r.jsonl"}).error, "");
}

// Given: the model's output of the second head damaged. Claim: only --check finds it, and says where.
TEST_F(Inspect, CheckReadsEverything) {
  std::string bytes = read_text(path_);
  const float row[] = {0.0F, 1.0F};
  const std::string wanted(reinterpret_cast<const char*>(row), sizeof(row));
  const std::size_t last = bytes.rfind(wanted);  // o is written last
  ASSERT_NE(last, std::string::npos);
  bytes[last + 2] = '\x80';  // 0.0 becomes infinity
  bytes[last + 3] = '\x7f';
  write_bytes(path_, bytes);
  EXPECT_EQ(inspect({path_, "--heads", "0"}).error, "");
  EXPECT_EQ(
      inspect({path_, "--heads", "0", "--check"}).error,
      path_ +
          ": /captures/call/o: wanted finite numbers, found 1 NaN or infinite in head 1, the first, inf, at [1, 1, 0]");
}

}  // namespace
}  // namespace draft
