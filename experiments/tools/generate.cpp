// Question: none; makes dumps with known properties, for checks and for trying the program out.
// Command:  draftbench generate KIND --out FILE.h5
// Output:   a dump with one capture.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "experiments/input/command.hpp"
#include "harness/dump/synthetic.hpp"
#include "harness/options.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr Index kMostTokens = 10'000'000;
constexpr Index kMostHeads = 1024;
constexpr Index kLargestHeadDim = 4096;

struct GenerateOptions {
  SyntheticKind kind = SyntheticKind::iid;
  std::string out;
  Grid grid{4, 16, 32, 0};
  Index heads = 1;
  Index kv_heads = 0;  // 0: as many as heads
  Index head_dim = 64;
  std::uint64_t seed = 1;
  Element element = Element::bfloat16;
};

/// "4x16x32" as frames, height, width.
void parse_grid(const std::string& text, Grid& grid) {
  const char* at = text.data();
  const char* const end = at + text.size();
  bool fine = true;
  for (Index* axis : {&grid.frames, &grid.height, &grid.width}) {
    if (axis != &grid.frames) {
      fine = fine && at != end && *at == 'x';
      if (fine) ++at;
    }
    const auto [rest, error] = std::from_chars(at, end, *axis);
    fine = fine && error == std::errc() && *axis >= 1 && *axis <= kMostTokens;
    at = rest;
  }
  if (fine && at == end) return;
  throw CLI::ValidationError("--grid", fmt::format("wanted FRAMESxHEIGHTxWIDTH, such as 4x16x32, found '{}'", text));
}

void generate(const GenerateOptions& options) {
  SyntheticSpec spec{options.kind,     options.grid,
                     options.heads,    options.kv_heads > 0 ? options.kv_heads : options.heads,
                     options.head_dim, options.seed};
  if (spec.heads % spec.kv_heads != 0) {
    throw UsageError(
        fmt::format("--kv-heads: wanted a whole divisor of {} heads, found {}", spec.heads, spec.kv_heads));
  }
  // Each axis is at most kMostTokens, so that the product of two fits.
  if (spec.grid.frame_tokens() > kMostTokens || spec.grid.tokens() > kMostTokens) {
    throw UsageError(fmt::format("--grid: wanted at most {} tokens, found {}", kMostTokens, to_string(spec.grid)));
  }
  const std::string source = fmt::format(
      "draftbench generate {} --grid {}x{}x{} --text {} --heads {} --kv-heads {} --head-dim {} --seed {} --dtype {}",
      to_string(spec.kind), spec.grid.frames, spec.grid.height, spec.grid.width, spec.grid.text, spec.heads,
      spec.kv_heads, spec.head_dim, spec.seed, to_string(options.element));
  write_synthetic_dump(options.out, spec, options.element, source);
}

}  // namespace

namespace {

Action generate_options(CLI::App& command) {
  const auto options = std::make_shared<GenerateOptions>();
  std::vector<std::string> kinds;
  for (const SyntheticKind kind : synthetic_kinds()) kinds.push_back(to_string(kind));
  const auto read_kind = [options](const std::string& text) {
    try {
      options->kind = parse_synthetic_kind(text);
    } catch (const std::invalid_argument& error) {
      throw CLI::ValidationError("KIND", std::string(error.what()).substr(std::string("kind: ").size()));
    }
  };
  const auto read_element = [options](const std::string& text) {
    const std::optional<Element> element = parse_element(text);
    if (!element) {
      throw CLI::ValidationError("--dtype",
                                 fmt::format("wanted float16, bfloat16, float32 or float64, found '{}'", text));
    }
    options->element = *element;
  };
  command.add_option_function<std::string>("KIND", read_kind, fmt::format("One of {}", fmt::join(kinds, ", ")))
      ->type_name("")
      ->required();
  CLI::Option* out = command.add_option("--out", options->out, "The dump to write; an older one is replaced");
  require_file_name(out->type_name("FILE")->required());
  command
      .add_option_function<std::string>(
          "--grid", [options](const std::string& text) { parse_grid(text, options->grid); },
          "Video tokens as FRAMESxHEIGHTxWIDTH (default 4x16x32)")
      ->type_name("FxHxW");
  const auto add_count = [&](const char* name, Index& value, Index least, Index most, const std::string& description) {
    require_whole_number(command.add_option(name, value, description)->type_name("N"), least, most);
  };
  add_count("--text", options->grid.text, 0, kMostTokens, "Text tokens (default 0)");
  add_count("--heads", options->heads, 1, kMostHeads, "Query heads (default 1)");
  add_count("--kv-heads", options->kv_heads, 1, kMostHeads, "Key and value heads (default: as many as heads)");
  add_count("--head-dim", options->head_dim, 1, kLargestHeadDim, "Numbers a token (default 64)");
  CLI::Option* seed = command.add_option("--seed", options->seed, "Seed; the same one gives the same dump (default 1)");
  require_whole_number<std::uint64_t>(seed->type_name("N"), 0);
  command.add_option_function<std::string>("--dtype", read_element, "float16, bfloat16 (default), float32 or float64")
      ->type_name("TYPE");
  return [options] {
    generate(*options);
    return kExitFine;
  };
}

}  // namespace

Command generate_command() {
  return {"generate",
          "Makes a dump with known properties",
          nullptr,
          "block-smooth --out smooth.h5 --grid 4x16x32 --text 8 --heads 2 --head-dim 64 --seed 1 --dtype bfloat16",
          false,
          generate_options};
}

}  // namespace draft
