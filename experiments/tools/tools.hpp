#pragma once
// Subcommands that measure nothing; each one's own file says what it is.

#include <span>

#include "experiments/input/command.hpp"

namespace draft {

/// With --device cuda the machine includes the GPU; UsageError if there is none.
Action about_command(CLI::App& command);
/// Writes the file; leaves nothing behind if it cannot.
Action generate_command(CLI::App& command);
/// Prints to stdout; DumpError on a refused dump.
Action inspect_command(CLI::App& command);

/// `list` to stdout: the experiments among the commands, and what else there is to choose from. Returns kExitFine.
int print_list(std::span<const Command> commands);

}  // namespace draft
