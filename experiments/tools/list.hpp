#pragma once
// `draftbench list`: what there is to choose from.

#include <span>

#include "experiments/input/command.hpp"

namespace draft {

/// Prints the experiments among the commands, and what else there is to choose from, to stdout. Returns kExitFine.
int print_list(std::span<const Command> commands);

}  // namespace draft
