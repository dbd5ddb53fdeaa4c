// The one program: subcommands, and what their failures look like.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "experiments/commands.hpp"
#include "harness/options.hpp"
#include "harness/ranks/launch.hpp"
#include "harness/ranks/ranks.hpp"
#include "harness/record/provenance.hpp"
#include "harness/standard_streams.hpp"
#include "harness/text.hpp"

namespace {

std::string failure;  // of this process

void print_failure(const std::string& text) {
  std::string line = text;
  std::replace(line.begin(), line.end(), '\n', ' ');  // one clear line, whatever a library's message looks like
  std::fputs(fmt::format("draftbench: {}\n", draft::shown(line)).c_str(), stderr);  // throws nothing if stderr is full
}

/// Prints a failure as one line on stderr; of several ranks the first one prints.
int report(const std::string& line) {
  failure = line;
  if (draft::launch().rank == 0) print_failure(line);
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
  app.footer("Example: draftbench run data/photodit_512p.h5 --out records.jsonl");
  int status = draft::kExitFine;
  std::vector<std::string> names;
  for (const draft::Command& command : draft::commands()) {
    draft::add_command(app, command.name, status);
    names.emplace_back(command.name);
  }
  const std::string first = argc > 1 ? argv[1] : "--help";
  if (!first.starts_with('-') && std::ranges::count(names, first) == 0) {  // CLI11 would not name it
    const std::string last = names.back();
    names.pop_back();
    return report(fmt::format("'{}' is no subcommand; wanted {} or {}", first, fmt::join(names, ", "), last));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help
    std::ostringstream text;            // not std::cout, which is flushed at once and forgets why that failed
    const int shown = app.exit(help, text, text);
    if (draft::launch().rank == 0) fmt::print("{}", text.str());
    return shown;
  } catch (const CLI::ParseError& error) {
    return report(error.what());
  } catch (const draft::RunEnded&) {
    return draft::kExitBadInput;
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

// NOLINTNEXTLINE(bugprone-exception-escape): what run() lets through ends the program, as it should.
int main(int argc, char** argv) {
  draft::guard_standard_streams();
  int status = run(argc, argv);
  if (status != draft::kExitBadInput) {
    const std::string why = draft::unwritten_output();
    if (!why.empty()) status = report("stdout cannot be written: " + why);
  }
  return draft::leave_ranks(status, failure, print_failure);
}
