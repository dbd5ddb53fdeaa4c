// What a record says of a dump's head.
#include "experiments/input/heads.hpp"

#include <gtest/gtest.h>

namespace draft {
namespace {

Json input_with_prompt(std::optional<std::string> prompt) {
  DumpInfo info;
  info.path = "folder/run.h5";
  info.model = "Wan";
  info.grid = {2, 3, 4, 5};
  info.heads = 2;
  info.head_dim = 64;
  CaptureInfo capture;
  capture.name = "layer3_step7";
  capture.layer = 3;
  capture.step = 7;
  capture.timestep = 0.25;
  capture.prompt = std::move(prompt);
  capture.model_heads = {4, 9};
  return input_of(info, "abc", {&capture, 1, 1});
}

// Claim: layer, step, noise level and head are the capture's, the head by both of its numbers.
TEST(InputOfAHead, NamesItsPlace) {
  const Json input = input_with_prompt({});
  EXPECT_EQ(input["dump"], "run.h5");
  EXPECT_EQ(input["layer"], 3);
  EXPECT_EQ(input["step"], 7);
  EXPECT_EQ(input["timestep"], 0.25);
  EXPECT_EQ(input["head"], 1);
  EXPECT_EQ(input["model_head"], 9);
  EXPECT_EQ(input["grid"]["width"], 4);
  EXPECT_FALSE(input.contains("prompt"));
  EXPECT_FALSE(input.contains("steps"));
}

// Claim: the prompt is there as the dump has it; of a long one the first 500 bytes are, with a mark.
TEST(InputOfAHead, HasItsPrompt) {
  EXPECT_EQ(input_with_prompt("a cat, \xc3\xa9l\xc3\xa9gant")["prompt"], "a cat, \xc3\xa9l\xc3\xa9gant");
  const auto cut = input_with_prompt(std::string(100'000, 'x'))["prompt"].get<std::string>();
  EXPECT_LE(cut.size(), 503u);
  EXPECT_TRUE(cut.starts_with(std::string(400, 'x')));
  EXPECT_TRUE(cut.ends_with("..."));
}

// Claim: the step that is found is the latest before one's own of this layer, prompt and branch, and the head is found
// there by the model's number.
TEST(EarlierCapture, IsTheLatestOfTheSameHead) {
  DumpInfo info;
  info.heads = 2;
  const auto add = [&](const char* name, Index layer, Index step, const char* prompt, std::vector<Index> heads) {
    CaptureInfo capture;
    capture.name = name;
    capture.layer = layer;
    capture.step = step;
    capture.prompt = prompt;
    capture.model_heads = std::move(heads);
    info.captures.push_back(std::move(capture));
  };
  add("own", 3, 20, "a", {4, 9});
  add("before", 3, 5, "a", {9, 4});
  add("latest", 3, 12, "a", {9, 2});
  add("same step", 3, 20, "a", {4, 9});
  add("later", 3, 24, "a", {4, 9});
  add("other layer", 2, 15, "a", {4, 9});
  add("other prompt", 3, 15, "b", {4, 9});
  const CaptureInfo& own = info.captures[0];
  ASSERT_NE(earlier_capture(info, {&own, 0, 0}), nullptr);
  EXPECT_EQ(earlier_capture(info, {&own, 0, 0})->name, "before");
  EXPECT_EQ(same_head(own, 0, info.captures[1]), Index{1});
  EXPECT_EQ(earlier_capture(info, {&own, 1, 1})->name, "latest");
  EXPECT_EQ(same_head(own, 1, info.captures[2]), Index{0});
  EXPECT_EQ(same_head(own, 0, info.captures[2]), std::nullopt);
  EXPECT_EQ(earlier_capture(info, {&info.captures[1], 0, 0}), nullptr);
  CaptureInfo unnumbered = own;
  unnumbered.model_heads.clear();
  EXPECT_EQ(same_head(unnumbered, 1, info.captures[1]), Index{1});
}

}  // namespace
}  // namespace draft
