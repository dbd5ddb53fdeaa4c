#pragma once
// The options that every subcommand shares, under one name each, and how they are parsed.

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "reference/draft_mask.hpp"

namespace CLI {
class App;
class Option;
}

namespace draft {

/// Bad usage or bad input: one clear line for stderr, exit status 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Exit statuses of the program.
enum ExitStatus : int { kExitFine = 0, kExitCheckFailed = 1, kExitBadInput = 2 };

/// What the command line asked for. Empty lists mean "the subcommand's default".
struct Options {
  std::string dump;                   // positional: the dump file
  std::vector<std::string> captures;  // --capture
  std::vector<Index> heads;           // --heads
  std::vector<Pool> pools;            // --pool
  std::vector<RegionSize> regions;    // --region
  std::vector<Rule> rules;            // --rule
  std::vector<double> sparsities;     // --sparsity
  std::string out;                    // --out: JSON Lines to append to; empty: none
  std::string device = "cpu";         // --device
  int threads = 0;                    // --threads; 0: all cores
  std::uint64_t seed = 1;             // --seed
  bool quiet = false;                 // --quiet: no progress, no table
};

/// Which of the shared options a subcommand takes.
struct OptionSet {
  bool dump = false, captures = false, pool = false, region = false, rule = false, sparsity = false, compute = false;
};

/// Has an option that names a file refuse an empty name.
void require_file_name(CLI::Option* option);

/// Adds the chosen options (and always --out, --seed, --quiet) to a subcommand. Values are parsed into
/// `options`; a value that does not parse makes CLI11 fail with the option's name.
void add_options(CLI::App& command, Options& options, OptionSet chosen);

}  // namespace draft
