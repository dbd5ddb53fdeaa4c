#include "experiments/timed_options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <stdexcept>

namespace draft {

std::string to_string(TokenOrder order) {
  return order == TokenOrder::token ? "token" : order == TokenOrder::region ? "region" : "gather";
}

TokenOrder parse_token_order(const std::string& text) {
  for (const TokenOrder order : {TokenOrder::token, TokenOrder::region, TokenOrder::gather}) {
    if (text == to_string(order)) return order;
  }
  throw std::invalid_argument(fmt::format("order: wanted token, region or gather, found '{}'", text));
}

void add_timed_options(CLI::App& command, TimedOptions& options) {
  command
      .add_option("CALL", options.dump,
                  "A dump, whose chosen heads become one call, or a shape filled with random numbers: wan_512p, "
                  "wan_768p, hunyuan_768p or HEADSxFRAMESxHEIGHTxWIDTH[+TEXT]")
      ->type_name("")
      ->required();
  add_options(command, options, {.captures = true, .pool = true, .region = true, .rule = true, .sparsity = true});
  command.add_option("--kernel", options.kernels, "Kernels, such as wgmma,mma (see list)")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("LIST");
  command.add_option("--element", options.element, "float16 or bfloat16 (default: the dump's own, else bfloat16)")
      ->check(CLI::IsMember({"float16", "bfloat16"}))
      ->type_name("NAME");
  command.add_option("--head-dim", options.head_dim, "Channels of a head of a shape (default 128)")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command.add_option("--samples", options.samples, "Samples of each cell (default 10)")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  command.add_option("--warmup", options.warmup, "Runs of each cell before its first sample (default 2)")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
}

}  // namespace draft
