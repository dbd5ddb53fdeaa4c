#include "experiments/commands.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <stdexcept>
#include <vector>

#include "experiments/tools/list.hpp"
#include "harness/gpu.hpp"

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
  command->callback([run = row->options(*command), needs_gpu = row->needs_gpu, name, &status] {
    if (needs_gpu) require_gpu(name);
    status = run();
  });
  const std::string note = command->get_footer(), gap = *row->example == '\0' ? "" : " ";
  command->footer((note.empty() ? "" : note + "\n") + "Example: draftbench " + row->name + gap + row->example);
  return command;
}

}  // namespace draft
