// The one program: subcommands, and what their failures look like.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include "experiments/flops/flops.hpp"
#include "experiments/questions/all.hpp"
#include "experiments/questions/bounds.hpp"
#include "experiments/questions/pooling.hpp"
#include "experiments/questions/regions.hpp"
#include "experiments/timing/latency.hpp"
#include "experiments/timing/overhead.hpp"
#include "experiments/tools/about.hpp"
#include "experiments/tools/compare.hpp"
#include "experiments/tools/generate.hpp"
#include "experiments/tools/inspect.hpp"
#include "experiments/tools/list.hpp"
#include "experiments/verify/verify.hpp"
#include "harness/options.hpp"
#include "harness/record/provenance.hpp"
#include "harness/standard_streams.hpp"
#include "harness/text.hpp"

namespace {

/// Prints a failure as one line on stderr.
int report(std::string line) {
  std::replace(line.begin(), line.end(), '\n', ' ');  // one clear line, whatever a library's message looks like
  std::fputs(fmt::format("draftbench: {}\n", draft::shown(line)).c_str(), stderr);  // throws nothing if stderr is full
  return draft::kExitBadInput;
}

/// "bounds x.h5": what was being done, for a failure that says nothing of it.
std::string task(int argc, char** argv) {
  std::string words = argc > 1 ? argv[1] : "";
  if (argc > 2 && *argv[2] != '-') words += std::string(" ") + argv[2];
  return words;
}

/// The command line's exit status; a failure is reported.
int run(int argc, char** argv) {
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
    return report("'" + first +
                  "' is no subcommand; wanted run, inspect, bounds, pooling, regions, flops, generate, "
                  "verify, latency, overhead, compare, list or about");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help
    std::ostringstream text;            // not std::cout, which is flushed at once and forgets why that failed
    const int shown = app.exit(help, text, text);
    fmt::print("{}", text.str());
    return shown;
  } catch (const CLI::ParseError& error) {
    return report(error.what());
  } catch (const draft::UsageError& error) {
    return report(error.what());
  } catch (const std::bad_alloc&) {
    return report(
        fmt::format("{}: out of memory: this process held up to {} bytes and the system gave it no more; fewer "
                    "--threads need less",
                    task(argc, argv), draft::peak_memory()));
  } catch (const std::system_error& error) {
    if (std::ferror(stdout) != 0) return report("stdout cannot be written: " + error.code().message());
    return report(task(argc, argv) + ": stopped by a failure of the system: " + error.what());
  } catch (const std::exception& error) {
    return report(task(argc, argv) + ": stopped by a failure that was not foreseen: " + error.what());
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  draft::guard_standard_streams();
  const int status = run(argc, argv);
  if (status == draft::kExitBadInput) return status;
  const std::string why = draft::unwritten_output();
  return why.empty() ? status : report("stdout cannot be written: " + why);
}
