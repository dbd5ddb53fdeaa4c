#include "experiments/tools/convert.hpp"

#include <gtest/gtest.h>

#include "experiments/input/shape.hpp"
#include "experiments/timing/projection.hpp"
#include "harness/options.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

/// A timed call's record as version 1 had it, with the projection of 5 ms sparse, 20 ms dense and 1 ms of draft.
Json timed_of_version_1() {
  const Projection video = project(*paper_model("wan_512p"), 700.5, 20.0, 5.0, 1.0);
  return Json::parse(R"({"schema":1,"experiment":"latency","input":{"dump":null,"sha256":null,"capture":"wan_512p",
    "head":null,"heads":40,"frames":21,"height":32,"width":48,"text_tokens":0,"shape":"wan_512p","seed":1},
    "config":{"policy":"draft","device":"cuda","sparsity":0.9},"status":"ok","machine":{"gpu":"A","driver":"580"},
    "build":{"commit":"abc","dirty":true},"timing":{"median_ms":5.0},"metrics":{"matmul_tflops":700.5,"draft_ms":1.0,
    "speedup_over_dense":4.0}})")
      .patch(Json::array({{{"op", "add"}, {"path", "/metrics/projected_dense_s"}, {"value", video.dense_s}},
                          {{"op", "add"}, {"path", "/metrics/projected_sparse_s"}, {"value", video.sparse_s}}}));
}

std::string refusal(const std::filesystem::path& from, const std::filesystem::path& to) {
  try {
    convert_records(from, to);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "";
}

// Given: a record of a timed random call. Claim: one grid at the place of its sides, no capture, a run, and the parts
// of the projection that made its times; the rest stays.
TEST(Convert, ATimedCall) {
  const Json made = version_2_of(timed_of_version_1());
  EXPECT_FALSE(record_fault(made).has_value());
  EXPECT_EQ(made["input"].dump(),
            R"({"dump":null,"sha256":null,"capture":null,"head":null,"heads":40,"grid":{"frames":21,"height":32,)"
            R"("width":48},"text_tokens":0,"shape":"wan_512p","seed":1})");
  EXPECT_EQ(made["run"], "abc+ A 580 700.5");
  const Projection video = project(*paper_model("wan_512p"), 700.5, 20.0, 5.0, 1.0);
  EXPECT_EQ(made["metrics"]["projected_calls"], video.calls);
  EXPECT_EQ(made["metrics"]["projected_sparse_share"], video.sparse_share);
  // A difference of two times, each rounded.
  EXPECT_NEAR(made["metrics"]["projected_other_s"].get<double>(), video.other_s, 1e-14 * video.dense_s);
  EXPECT_EQ(made["config"], timed_of_version_1()["config"]);
}

// Given: times that no projection of this model makes. Claim: no parts are made up.
TEST(Convert, AnotherProjection) {
  Json odd = timed_of_version_1();
  odd["metrics"]["projected_sparse_s"] = odd["metrics"]["projected_sparse_s"].get<double>() * 1.001;
  EXPECT_FALSE(version_2_of(odd)["metrics"].contains("projected_calls"));
  odd["input"]["shape"] = "40x21x32x48+1";
  EXPECT_FALSE(version_2_of(odd)["metrics"].contains("projected_calls"));
}

// Given: a record of flops, one that was skipped without metrics, and one of a dump. Claim: the model stands once,
// metrics are there, a dump's capture stays, and no run is made up.
TEST(Convert, Others) {
  const Json flops = version_2_of(
      Json::parse(R"({"schema":1,"experiment":"flops","input":{"model":"m","resolution":"r"},"config":{"part":"p",
    "model":"m","resolution":"other"},"metrics":{},"status":"ok"})"));
  const Json thirds = version_2_of(Json::parse(
      R"({"schema":1,"experiment":"verify","input":{},"config":{"policy":"uneven"},"metrics":{},"status":"ok"})"));
  EXPECT_EQ(thirds["config"]["policy"], "thirds");
  EXPECT_EQ(flops["config"].dump(), R"({"part":"p","resolution":"other"})");
  const Json skipped = version_2_of(Json::parse(R"({"schema":1,"experiment":"verify","input":{"sha256":"ab",
    "capture":"c","shape":"x","grid":{"frames":1,"height":2,"width":3}},"config":{},"status":"skipped"})"));
  EXPECT_FALSE(record_fault(skipped).has_value());
  EXPECT_EQ(skipped["metrics"], Json::object());
  EXPECT_EQ(skipped["input"]["capture"], "c");
  EXPECT_FALSE(skipped.contains("run"));
}

// Given: a file of both versions. Claim: version 2 stays byte for byte, and a second conversion changes nothing. A file
// that is there, one that is missing, and a line that is no record of either are refused, and nothing is left behind.
TEST(Convert, Files) {
  const TemporaryDirectory directory;
  const std::string second = version_2_of(timed_of_version_1()).dump(1, ' ');
  std::string one_line = second;
  std::replace(one_line.begin(), one_line.end(), '\n', ' ');
  write_bytes(directory / "old", one_line + "\n" + timed_of_version_1().dump() + "\n");
  EXPECT_EQ(refusal(directory / "old", directory / "new"), "");
  EXPECT_EQ(read_text(directory / "new"), one_line + "\n" + version_2_of(timed_of_version_1()).dump() + "\n");
  EXPECT_EQ(refusal(directory / "new", directory / "again"), "");
  EXPECT_EQ(read_text(directory / "again"), read_text(directory / "new"));
  EXPECT_EQ(refusal(directory / "old", directory / "new"),
            (directory / "new").string() + ": records cannot be written here: wanted no such file, found one");
  EXPECT_NE(refusal(directory / "none", directory / "x").find("No such file"), std::string::npos);
  EXPECT_NE(refusal(directory / "old", directory / "x.gz").find("wanted a name without .gz"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(directory / "x.gz"));
  write_bytes(directory / "bad", timed_of_version_1().dump() + "\n{\"schema\":1,\"experiment\":\"x\",\"input\":3}\n");
  EXPECT_NE(refusal(directory / "bad", directory / "x").find("bad: line 2: config: wanted an object"),
            std::string::npos)
      << refusal(directory / "bad", directory / "x");
  EXPECT_FALSE(std::filesystem::exists(directory / "x"));
  EXPECT_FALSE(std::filesystem::exists(directory / "x.partial"));
}

}  // namespace
}  // namespace draft
