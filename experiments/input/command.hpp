#pragma once
// A subcommand of the program: a row of the table that experiments/commands.inc lists.

#include <functional>

namespace CLI {
class App;
}

namespace draft {

/// What a subcommand does once its command line has been read. Returns the exit status; throws UsageError.
using Action = std::function<int()>;

struct Command {
  const char* name;
  const char* question;    // one line, of --help
  const char* experiment;  // one line of `list` on what it measures; null: it measures nothing
  const char* example;     // what stands behind "draftbench NAME"
  bool needs_gpu;
  Action (*options)(CLI::App& command);  // adds its options
  bool shared = false;                   // several processes of a launcher (mpirun) share its work
};

}  // namespace draft
