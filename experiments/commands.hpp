#pragma once
// The table of subcommands: what main, `list` and every usage are made of.

#include <span>
#include <string>

#include "experiments/input/command.hpp"

namespace draft {

/// In the order of --help.
std::span<const Command> commands();

/// Adds the command of that name. Parsing its command line runs it: `status` is then its exit status. Throws
/// std::invalid_argument if the table has no such row.
CLI::App* add_command(CLI::App& app, const std::string& name, int& status);

}  // namespace draft
