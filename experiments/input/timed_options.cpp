#include "experiments/input/timed_options.hpp"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <stdexcept>

#include "experiments/input/shape.hpp"

namespace draft {
namespace {

/// "" for a shape.
std::string why_no_call_shape(const std::string& text) {
  try {
    static_cast<void>(parse_call_shape(text, 1));
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

void add_timed_options(CLI::App& command, TimedOptions& options) {
  command
      .add_option("CALL", options.dump,
                  "A dump, whose chosen heads become one call, or a shape filled with random numbers: wan_512p, "
                  "wan_768p, hunyuan_768p or HEADSxFRAMESxHEIGHTxWIDTH[+TEXT]")
      ->check(CLI::Validator(
          [](const std::string& text) {
            const std::string why = std::filesystem::exists(text) ? "" : why_no_call_shape(text);
            return why.empty() ? why : "no such file, and as a shape: " + why;
          },
          ""))
      ->type_name("")
      ->required();
  add_options(command, options, {.captures = true, .pool = true, .region = true, .rule = true, .sparsity = true});
  add_text_list(command, "--kernel", options.kernels, "Kernels, such as wgmma,mma (see list)");
  command.add_option("--element", options.element, "float16 or bfloat16 (default: the dump's own, else bfloat16)")
      ->check(CLI::IsMember({"float16", "bfloat16"}))
      ->type_name("NAME");
  require_whole_number(
      command.add_option("--head-dim", options.head_dim, "Channels of a head of a shape (default 128)")->type_name("N"),
      1);
  require_whole_number(
      command.add_option("--samples", options.samples, "Samples of each cell (default 10)")->type_name("N"), 1);
  require_whole_number(
      command.add_option("--warmup", options.warmup, "Runs of each cell before its first sample (default 2)")
          ->type_name("N"),
      0);
}

}  // namespace draft
