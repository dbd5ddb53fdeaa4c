// Question: what does a dump hold, and is it sound?
// Command:  draftbench inspect DUMP [--capture NAMES] [--heads LIST] [--check]
// Output:   the header, a row for each capture, and the range of each head's numbers, on stdout.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "experiments/input/command.hpp"
#include "experiments/input/heads.hpp"
#include "harness/dump/dump.hpp"
#include "harness/options.hpp"
#include "harness/progress.hpp"
#include "harness/table.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kWidth = 120;

/// Nothing chosen means everything.
template <typename Value>
bool is_chosen(const std::vector<Value>& chosen, const Value& value) {
  return chosen.empty() || std::find(chosen.begin(), chosen.end(), value) != chosen.end();
}

void print_header(const DumpInfo& info) {
  fmt::print("{}: version {}\n", shown(info.path.string()), info.version);
  fmt::print("model     {}\nsource    {}\n", shown(info.model), shown(info.source));
  fmt::print("grid      {} = {} tokens\n", to_string(info.grid), info.grid.tokens());
  fmt::print("heads     {} (K and V: {}), head_dim {}\n", info.heads, info.kv_heads, info.head_dim);
  fmt::print("elements  {}\n\n", info.element);
}

void print_captures(const DumpInfo& info, const Options& options) {
  Table table({{"capture", Align::left},
               {"layer"},
               {"step"},
               {"timestep"},
               {"scale"},
               {"branch", Align::left},
               {"q, o", Align::left},
               {"k, v", Align::left},
               {"output", Align::left},
               {"prompt", Align::left}});
  const auto shape = [&](Index heads) { return fmt::format("[{}, {}, {}]", heads, info.grid.tokens(), info.head_dim); };
  for (const CaptureInfo& capture : info.captures) {
    if (!is_chosen(options.captures, capture.name)) continue;
    const std::string steps = capture.steps ? fmt::format(" of {}", *capture.steps) : "";
    table.add_row({capture.name, fmt::to_string(capture.layer), fmt::to_string(capture.step) + steps,
                   number(capture.timestep, 6), number(capture.softmax_scale), capture.branch.value_or("-"),
                   shape(info.heads), shape(info.kv_heads), capture.has_output ? "yes" : "no",
                   capture.prompt.value_or("-")});
  }
  table.print(stdout, kWidth);
}

void add_statistics(Table& table, const CaptureInfo& capture, Index head, char name, const Matrix& numbers) {
  const double rms = std::sqrt(numbers.squaredNorm() / static_cast<double>(numbers.size()));
  table.add_row({capture.name, fmt::to_string(head), std::string(1, name), number(numbers.minCoeff()),
                 number(numbers.maxCoeff()), number(rms), number(numbers.rowwise().norm().maxCoeff())});
}

/// Loads the chosen heads (with `check` all, and their outputs) and shows the range of the chosen ones.
void print_heads(const Dump& dump, const Options& options, bool check) {
  const DumpInfo& info = dump.info();
  Table table(
      {{"capture", Align::left}, {"head"}, {"tensor", Align::left}, {"min"}, {"max"}, {"rms"}, {"max row norm"}});
  const Index all = static_cast<Index>(info.captures.size()) * info.heads;
  ProgressLine progress("reading heads", all, false);
  Index loaded = 0;
  for (const CaptureInfo& capture : info.captures) {
    for (Index head = 0; head < info.heads; ++head) {
      const bool wanted = is_chosen(options.captures, capture.name) && is_chosen(options.heads, head);
      if (wanted || check) {
        for (const char tensor : {'q', 'k', 'v'}) {  // one at a time: a small file can hold large heads
          const Matrix numbers = dump.load_tensor(capture, tensor, head);
          if (wanted) add_statistics(table, capture, head, tensor, numbers);
        }
        if (check) static_cast<void>(dump.load_output(capture, head));
        ++loaded;
      }
      progress.advance();
    }
  }
  progress.finish();
  fmt::print("\n");
  table.print(stdout, kWidth);
  if (check) fmt::print("\ncheck: all {} heads are readable and finite\n", loaded);
}

void inspect(Options options, bool check) {
  const Dump dump = Dump::open(options.dump);
  const DumpInfo& info = dump.info();
  options.captures = chosen_captures(info, options);
  for (const Index head : options.heads) {
    if (head >= info.heads) {
      throw UsageError(
          fmt::format("{}: --heads: wanted 0 to {}, found {}", shown(info.path.string()), info.heads - 1, head));
    }
  }
  print_header(info);
  print_captures(info, options);
  print_heads(dump, options, check);
}

}  // namespace

namespace {

Action inspect_options(CLI::App& command) {
  const auto options = std::make_shared<Options>();
  const auto check = std::make_shared<bool>(false);
  add_options(command, *options, {.dump = true, .captures = true});
  // It writes no records, has nothing random, and its table is the point.
  for (const char* unused : {"--out", "--any-build", "--seed", "--quiet"}) {
    command.remove_option(command.get_option(unused));
  }
  add_switch(command, "--check", *check, "Reads every head and the model's outputs, also those not shown");
  return [options, check] {
    inspect(*options, *check);
    return kExitFine;
  };
}

}  // namespace

Command inspect_command() {
  return {"inspect", "Shows what a dump holds and refuses an unsound one",
          nullptr,   "captured.h5 --heads 0,2 --check",
          false,     inspect_options};
}

}  // namespace draft
