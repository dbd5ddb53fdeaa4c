#include "experiments/input/shape.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "experiments/timing/projection.hpp"

namespace draft {
namespace {

TEST(CallShape, NamesAndExtentsAreParsed) {
  EXPECT_EQ(parse_call_shape("wan_512p", 128), (CallShape{40, {21, 32, 48, 0}, 128}));
  EXPECT_EQ(parse_call_shape("wan_768p", 64), (CallShape{40, {21, 48, 80, 0}, 64}));
  EXPECT_EQ(parse_call_shape("hunyuan_768p", 128), (CallShape{24, {33, 48, 80, 256}, 128}));
  EXPECT_EQ(parse_call_shape("2x3x9x20", 128), (CallShape{2, {3, 9, 20, 0}, 128}));
  EXPECT_EQ(parse_call_shape("2x3x9x20+7", 64), (CallShape{2, {3, 9, 20, 7}, 64}));
  EXPECT_EQ(parse_call_shape("2x3x9x20+0", 64), (CallShape{2, {3, 9, 20, 0}, 64}));
}

TEST(CallShape, OthersAreRefusedWithWhatIsWanted) {
  for (const char* text : {"", "wan", "wan_512p ", "2x3x4", "2x3x4x5x6", "0x3x4x5", "2x3x4x-5", "2x3x4x5+", "2x3x4x5+x",
                           "2x3x4+5x6", "+5", "2x3x4x5+7+8", "2x3x4x99999999999999999999", "a2x3x4x5"}) {
    try {
      (void)parse_call_shape(text, 128);
      ADD_FAILURE() << text;
    } catch (const std::invalid_argument& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find("hunyuan_768p or HEADSxFRAMESxHEIGHTxWIDTH[+TEXT], found '"), std::string::npos)
          << message;
      EXPECT_NE(message.find("'" + std::string(text) + "'"), std::string::npos) << message;
    }
  }
}

TEST(CallShape, ThePapersCallsAreKnownWhateverTheirText) {
  EXPECT_EQ(to_string(CallShape{40, {21, 32, 48, 512}, 128}), "wan_512p");
  EXPECT_EQ(to_string(CallShape{40, {21, 48, 80, 0}, 128}), "wan_768p");
  EXPECT_EQ(to_string(CallShape{24, {33, 48, 80, 100}, 128}), "hunyuan_768p");
  EXPECT_EQ(to_string(CallShape{24, {33, 48, 80, 256}, 64}), "24x33x48x80+256");
  EXPECT_EQ(to_string(CallShape{8, {21, 32, 48, 0}, 128}), "8x21x32x48+0");
  for (const char* name : {"wan_512p", "wan_768p", "hunyuan_768p"}) {
    const CallShape shape = parse_call_shape(name, 128);
    const auto model = paper_model(name);
    ASSERT_TRUE(model.has_value());
    EXPECT_EQ(model->video_tokens, shape.grid.video()) << name;
    EXPECT_EQ(model->text_tokens, shape.grid.text) << name;
    EXPECT_EQ(model->hidden, shape.heads * shape.head_dim) << name;
  }
  EXPECT_FALSE(paper_model("8x21x32x48+0").has_value());
}

// A model by hand: 10 video tokens, hidden 4, MLP 8, 3 layers, 5 steps, 2 passes: 30 attention calls; a layer's
// projections are 8 d^2 L = 1280 FLOPs, its MLP 4 d f L = 1280, the modulation rows 2 * 3 * d^2 = 96 a pass and the
// patch embedding and head 4 * 64 * d * L = 10240 a pass: 30 * 2560 + 10 * 10336 = 180,160 FLOPs beside attention. At
// 1e-9 TFLOP/s (1,000 FLOP/s) these take 180.16 s. With 2 s a dense call, 0.5 s a sparse one and 0.1 s of draft: dense
// 180.16 + 60 = 240.16 s; sparse 180.16 + 30 (0.25 * 2 + 0.75 * 0.6) = 208.66 s. About 30 roundings.
TEST(Projection, IsWhatTheModelsFlopsAndTheMeasuredTimesGive) {
  const TransformerShape model{.model = "by hand",
                               .resolution = "",
                               .video_tokens = 10,
                               .text_tokens = 0,
                               .cross_tokens = 0,
                               .hidden = 4,
                               .mlp_hidden = 8,
                               .layers = 3,
                               .modulation_rows = 3,
                               .steps = 5,
                               .passes = 2};
  const double tolerance = 30 * 240.16 * std::numeric_limits<double>::epsilon();
  const Projection found = project(model, 1e-9, 2000, 500, 100);
  EXPECT_LE(std::abs(found.dense_s - 240.16), tolerance);
  EXPECT_LE(std::abs(found.sparse_s - 208.66), tolerance);
  EXPECT_LE(std::abs(found.speedup() - 240.16 / 208.66), tolerance);
  EXPECT_GT(std::abs(project(model, 1e-9, 2000, 500, 0).sparse_s - 208.66), 1.0);  // the draft counts
  EXPECT_EQ(project(model, 1e-9, 2000, 2000, 0).speedup(), 1.0);
}

}  // namespace
}  // namespace draft
