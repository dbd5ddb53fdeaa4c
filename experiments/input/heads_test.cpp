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
  capture.prompt = std::move(prompt);
  capture.model_heads = {4, 9};
  return input_of(info, "abc", {&capture, 1, 1});
}

// Claim: layer, step and head are the capture's, the head by both of its numbers.
TEST(InputOfAHead, NamesItsPlace) {
  const Json input = input_with_prompt({});
  EXPECT_EQ(input["dump"], "run.h5");
  EXPECT_EQ(input["layer"], 3);
  EXPECT_EQ(input["step"], 7);
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

}  // namespace
}  // namespace draft
