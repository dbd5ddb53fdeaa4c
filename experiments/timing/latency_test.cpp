// What `latency` and `overhead` do without a GPU: cells, records' parts, the call that a dump or a shape stands for,
// tables.
#include "experiments/timing/latency.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "experiments/input/call.hpp"
#include "experiments/timing/latency_table.hpp"
#include "experiments/timing/overhead.hpp"
#include "experiments/timing/overhead_table.hpp"
#include "harness/dump/writer.hpp"
#include "harness/numbers/half_tensor.hpp"
#include "harness/numbers/synthetic.hpp"
#include "harness/temporary_directory.hpp"
#include "harness/timing/timing.hpp"

namespace draft {
namespace {

TEST(Latency, CasesAreThePoliciesAtEverySparsityButNone) {
  LatencyOptions options;
  EXPECT_EQ(latency_masks(options, {8, 16}).size(), 8U);
  options.policies = {"draft", "worst", "draft"};
  options.sparsities = {0.0, 0.5, 0.9};
  options.rules = {Rule::softmax, Rule::row};
  options.pools = {Pool::average, Pool::maximum};
  EXPECT_EQ(latency_masks(options, {8, 16}).size(), 2U * 2U * 2U + 2U);
  options.policies = {"dense"};
  EXPECT_THROW((void)latency_masks(options, {8, 16}), std::invalid_argument);
}

TEST(Latency, ConfigsNameWhatMattersAndNoMore) {
  const RegionSize region{8, 16};
  const MaskChoice dense{.policy = Policy::dense, .region = region},
      draft{Policy::draft, Pool::maximum, Rule::row, {8, 8}, 0.75},
      uneven{.policy = Policy::uneven, .region = region, .sparsity = 0.9};
  EXPECT_EQ(
      call_config("wgmma", Element::bfloat16, TokenOrder::token, dense, 1).dump(),
      R"({"device":"cuda","kernel":"wgmma","element":"bfloat16","order":"token","policy":"dense","region":[8,16],"sparsity":0.0})");
  EXPECT_EQ(
      call_config("mma", Element::float16, TokenOrder::gather, draft, 1).dump(),
      R"({"device":"cuda","kernel":"mma","element":"float16","order":"gather","policy":"draft","pool":"max","rule":"row","region":[8,8],"sparsity":0.75})");
  EXPECT_EQ(
      call_config("mma", Element::bfloat16, TokenOrder::region, uneven, 7).dump(),
      R"({"device":"cuda","kernel":"mma","element":"bfloat16","order":"region","policy":"uneven","region":[8,16],"sparsity":0.9,"seed":7})");
}

TEST(Latency, FlopsCountWholeBlocks) {
  const KeptCounts counts = kept_counts(std::vector<std::int32_t>{2, 1, 3}, 1, 2, 1);  // 2 rows of video, 1 of text
  EXPECT_EQ(counts.kept_with_text(), 6);
  EXPECT_EQ(kept_flops(counts, {8, 16}, 128), 4.0 * 128 * 128 * 128 * 6);
  EXPECT_EQ(kept_flops(counts, {8, 8}, 64), 4.0 * 64 * 64 * 64 * 6);
}

TEST(Overhead, BytesAreTheLeastThatAPartMoves) {
  const KeptCounts counts{.heads = 2, .regions = 3, .text_blocks = 1, .kept_blocks = 8};
  const auto bytes = [&](const char* part) { return part_bytes(part, counts, 400, 300, 64); };
  EXPECT_EQ(bytes("pool"), 2 * (2.0 * 2 * 300 * 64 + 4.0 * 2 * 3 * 64));
  EXPECT_EQ(bytes("select"), 4.0 * 2 * 9);
  EXPECT_EQ(bytes("lists"), 4.0 * 2 * 9 + 2.0 * (8 + 2 * 7) + 6.0 * 2 * 4);
  EXPECT_EQ(bytes("reorder"), 3 * 2 * 2.0 * 2 * 400 * 64);
  EXPECT_EQ(bytes("restore"), 2 * 2.0 * 2 * 400 * 64);
  EXPECT_EQ(bytes("attention"), 0);
  EXPECT_EQ(bytes("map"), 0);
}

class Calls : public ::testing::Test {
 protected:
  /// Captures "a" and "b" of two heads each; `scale` is b's.
  std::string dump(double scale) {
    const std::string path = directory_ / "two.h5";
    DumpWriter writer(path, {"synthetic", "latency_test", spec_.grid});
    for (const char* name : {"a", "b"}) {
      CaptureInfo capture;
      capture.name = name;
      capture.softmax_scale = std::string(name) == "b" ? scale : 0.125;
      CaptureLayout layout;
      layout.heads = layout.kv_heads = 2;
      layout.head_dim = spec_.head_dim;
      layout.element = Element::float16;
      writer.add_capture(capture, layout);
      for (Index head = 0; head < 2; ++head) {
        const Problem problem = head_of(name, head);
        writer.write_head(head, problem.q, problem.k, problem.v);
      }
    }
    writer.finish();
    return path;
  }
  [[nodiscard]] Problem head_of(const std::string& name, Index head) const {
    SyntheticSpec spec = spec_;
    spec.seed = name == "a" ? 1 : 2;
    return synthetic_head(spec, head);
  }

  TemporaryDirectory directory_;
  SyntheticSpec spec_{SyntheticKind::iid, {2, 3, 5, 1}, 2, 2, 64, 1};
};

// Claim: the call's heads are a's, then b's, bit for bit.
TEST_F(Calls, StackTheChosenHeadsOfADump) {
  TimedOptions options;
  options.dump = dump(0.125);
  const CallSource all = CallSource::open(options);
  EXPECT_EQ(all.shape(), (CallShape{4, {2, 3, 5, 1}, 64}));
  EXPECT_EQ(all.element(), Element::float16);
  EXPECT_EQ(all.scale(), 0.125);
  EXPECT_EQ(all.input()["capture"], "a+b");
  EXPECT_TRUE(all.input()["head"].is_null());
  EXPECT_EQ(all.input()["shape"], "4x2x3x5+1");
  EXPECT_EQ(all.input()["data"], "captured");
  EXPECT_EQ(all.input()["sha256"].get<std::string>().size(), 64U);
  Index next = 0;
  all.load([&](Index place, const auto& q, const auto& k, const auto& v) {
    EXPECT_EQ(place, next++);
    const Problem problem = head_of(place < 2 ? "a" : "b", place % 2);
    EXPECT_EQ(q, to_bits(problem.q, Element::float16, "q"));
    EXPECT_EQ(k, to_bits(problem.k, Element::float16, "k"));
    EXPECT_EQ(v, to_bits(problem.v, Element::float16, "v"));
  });
  EXPECT_EQ(next, 4);

  options.captures = {"b"};
  options.heads = {1};
  options.element = "bfloat16";
  const CallSource one = CallSource::open(options);
  EXPECT_EQ(one.input()["capture"], "b");
  EXPECT_EQ(one.input()["head"], Json({1}));
  EXPECT_EQ(one.input()["heads"], 1);
  one.load([&](Index, const auto& q, const auto&, const auto&) {
    Problem problem = head_of("b", 1);
    round_to(problem.q, Element::float16);  // as the dump has it
    EXPECT_EQ(q, to_bits(problem.q, Element::bfloat16, "q"));
  });
}

TEST_F(Calls, OfDifferentScalesAreNoOneCall) {
  TimedOptions options;
  options.dump = dump(0.25);
  try {
    (void)CallSource::open(options);
    ADD_FAILURE();
  } catch (const UsageError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("found a with 0.125 and b with 0.25"), std::string::npos) << message;
  }
  options.captures = {"b"};
  EXPECT_EQ(CallSource::open(options).scale(), 0.25);
}

TEST_F(Calls, OfAShapeAreRandom) {
  TimedOptions options;
  options.dump = "2x1x3x4+2";
  options.head_dim = 64;
  options.seed = 5;
  const CallSource source = CallSource::open(options);
  EXPECT_EQ(source.shape(), (CallShape{2, {1, 3, 4, 2}, 64}));
  EXPECT_EQ(source.element(), Element::bfloat16);
  EXPECT_EQ(source.scale(), 0.125);
  EXPECT_TRUE(source.input()["dump"].is_null());
  EXPECT_TRUE(source.input()["capture"].is_null());
  EXPECT_EQ(source.input()["head_dim"], 64);
  EXPECT_EQ(source.input()["seed"], 5);
  std::vector<std::vector<std::uint16_t>> seen;
  source.load([&](Index, const auto& q, const auto& k, const auto& v) {
    for (const auto* tensor : {&q, &k, &v}) {
      EXPECT_EQ(tensor->size(), 14U * 64U);
      EXPECT_EQ(std::find(seen.begin(), seen.end(), *tensor), seen.end());
      seen.push_back(*tensor);
    }
  });
  EXPECT_EQ(seen.size(), 6U);
  options.dump = "wan_512p";
  options.head_dim = 128;
  const Json named = CallSource::open(options).input();
  EXPECT_EQ(named["shape"], "wan_512p");
  options.dump = "24x33x48x80+7";
  const CallSource hunyuan = CallSource::open(options);
  EXPECT_EQ(hunyuan.input()["shape"], "hunyuan_768p");
  EXPECT_EQ(hunyuan.input()["text_tokens"], 7);  // what tells it from the paper's
  options.dump = "missing.h5";
  EXPECT_THROW((void)CallSource::open(options), UsageError);
}

TEST(Tables, SayWhatWasTimedSkippedAndDone) {
  const MaskChoice draft{Policy::draft, Pool::average, Rule::softmax, {8, 16}, 0.9};
  const Json input{{"capture", "x"},   {"heads", 2},      {"grid", grid_json({1, 8, 16, 0})},
                   {"text_tokens", 0}, {"head_dim", 128}, {"data", "normal"}};
  const Json config = call_config("mma", Element::bfloat16, TokenOrder::token, draft, 1);
  Json metrics = metrics_of(kept_counts({1, 1}, 2, 1, 0));
  metrics["speedup_over_dense"] = 7.25;
  Json ok = make_record("latency", input, config, metrics);
  WorkTimes times;
  times.samples_ms = {2.5, 2.0, 3.0};
  ok["timing"] = timing_of(times, 1e9);
  const Json gone = skipped(make_record("latency", input, config, Json::object()), "wants token order");
  const std::string text = latency_text({ok, gone}, 3);
  for (const char* found :
       {"2 heads, 1x8x16 + 0 tokens", "draft avg softmax", "7.25", " 2.5 ", "2.1 to 2.9",
        "skipped: mma in token order, draft avg softmax, region 8x16, sparsity 0.9: wants token order",
        "3 cells stood in the file"}) {
    EXPECT_NE(text.find(found), std::string::npos) << found << "\n" << text;
  }
  ok["experiment"] = "overhead";
  ok["config"]["part"] = "pool";
  ok["metrics"]["share_of_attention"] = 0.0125;
  const std::string parts = overhead_text({ok}, 0);
  for (const char* found : {"pool", "0.0125", "2.5"}) EXPECT_NE(parts.find(found), std::string::npos) << parts;
  EXPECT_EQ(latency_text({}, 0), "");
}

}  // namespace
}  // namespace draft
