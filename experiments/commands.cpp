#include "experiments/commands.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <stdexcept>
#include <vector>

#include "experiments/tools/list.hpp"
#include "harness/gpu.hpp"
#include "harness/options.hpp"
#include "harness/ranks/launch.hpp"
#include "harness/ranks/ranks.hpp"

namespace draft {

#define COMMAND(name) Command name##_command();
#include "experiments/commands.inc"
#undef COMMAND

std::span<const Command> commands() {
  static const std::vector<Command> table{
#define COMMAND(name) name##_command(),
#include "experiments/commands.inc"
#undef COMMAND
  };
  return table;
}

namespace {

/// Why a command that does not share its work is refused where a launcher started several processes.
std::string one_process_line(const std::string& name) {
  std::vector<std::string> sharing;
  for (const Command& one : commands()) {
    if (one.shared) sharing.emplace_back(one.name);
  }
  return fmt::format("{}: wanted one process, found {} of one launch (mpirun, srun); work is shared by {}", name,
                     launch().count, fmt::join(sharing, ", "));
}

}  // namespace

/// Here, as it prints the table.
Command list_command() {
  return {"list",  "Prints what there is to choose from",
          nullptr, "",
          false,   [](CLI::App&) -> Action { return [] { return print_list(commands()); }; }};
}

CLI::App* add_command(CLI::App& app, const std::string& name, int& status) {
  const auto row = std::ranges::find_if(commands(), [&](const Command& one) { return one.name == name; });
  if (row == commands().end()) throw std::invalid_argument("add_command: the table has no '" + name + "'");
  CLI::App* command = app.add_subcommand(row->name, row->question);
  command->footer("");  // else it has the program's
  command->callback([run = row->options(*command), needs_gpu = row->needs_gpu, shared = row->shared, name, &status] {
    if (launch().count > 1) {  // before the GPU, which each rank has its own
      if (!shared) throw UsageError(one_process_line(name));
      choose_gpu(ranks().place_on_machine());
    }
    if (needs_gpu) require_gpu(name);
    status = run();
  });
  const std::string note = command->get_footer(), gap = *row->example == '\0' ? "" : " ";
  command->footer((note.empty() ? "" : note + "\n") + "Example: draftbench " + row->name + gap + row->example);
  return command;
}

}  // namespace draft
