// The one program: subcommands, and what their failures look like.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <utility>

#include "experiments/about.hpp"
#include "experiments/bounds.hpp"
#include "experiments/compare.hpp"
#include "experiments/flops.hpp"
#include "experiments/generate.hpp"
#include "experiments/inspect.hpp"
#include "experiments/latency.hpp"
#include "experiments/list.hpp"
#include "experiments/overhead.hpp"
#include "experiments/pooling.hpp"
#include "experiments/regions.hpp"
#include "experiments/run.hpp"
#include "experiments/verify.hpp"
#include "harness/options.hpp"
#include "harness/text.hpp"

namespace {

/// Prints a failure as one line on stderr.
int report(std::string line) {
  std::replace(line.begin(), line.end(), '\n', ' ');  // one clear line, whatever a library's message looks like
  fmt::print(stderr, "draftbench: {}\n", draft::shown(line));
  return draft::kExitBadInput;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Validates and benchmarks DraftAttention on captured Q/K/V dumps.", "draftbench");
  app.require_subcommand(1);
  app.footer("Example: draftbench run data/minidit_512p.h5 --out records.jsonl");
  int status = draft::kExitFine;
  draft::add_run(app, status);
  draft::add_inspect(app);
  draft::add_bounds(app, status);
  draft::add_pooling(app, status);
  draft::add_regions(app, status);
  draft::add_flops(app);
  draft::add_generate(app);
  draft::add_verify(app, status);
  draft::add_latency(app, status);
  draft::add_overhead(app, status);
  draft::add_compare(app, status);
  draft::add_list(app);
  draft::add_about(app);
  const std::string first = argc > 1 ? argv[1] : "--help";
  const auto is_first = [&](const CLI::App* subcommand) { return subcommand->get_name() == first; };
  if (!first.starts_with('-') && std::as_const(app).get_subcommands(is_first).empty()) {  // CLI11 would not name it
    return report("'" + first + "' is no subcommand; wanted run, inspect, bounds, pooling, regions, flops, generate, "
                  "verify, latency, overhead, compare, list or about");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return report(error.what());
  } catch (const std::exception& error) {
    return report(error.what());
  }
  return status;
}
