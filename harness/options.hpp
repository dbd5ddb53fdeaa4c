#pragma once
// The options that every subcommand shares, under one name each, and how they are parsed.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "reference/draft_mask.hpp"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace draft {

/// Bad usage or bad input: one clear line for stderr, exit status 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Exit statuses of the program.
enum ExitStatus : int { kExitFine = 0, kExitCheckFailed = 1, kExitBadInput = 2 };

/// The parsed command line. An empty list means the subcommand's default.
struct Options {
  std::string dump;                   // positional: the dump file
  std::vector<std::string> captures;  // --capture as given: a name, or several between commas; see chosen_captures()
  std::vector<Index> heads;           // --heads
  std::vector<Pool> pools;            // --pool
  std::vector<RegionSize> regions;    // --region
  std::vector<Rule> rules;            // --rule
  std::vector<double> sparsities;     // --sparsity
  std::vector<std::string> policies;  // --policy: whose masks
  std::vector<Remainder> remainders;  // --remainder
  std::string out;                    // --out: JSON Lines to append to; empty: none
  bool any_build = false;             // --any-build: cells that another build measured are done
  std::string device = "cpu";         // --device
  int threads = 0;                    // --threads; 0: all cores
  std::uint64_t seed = 1;             // --seed
  bool quiet = false;                 // --quiet: no progress, no table
  bool masks = false;                 // --masks: records carry them
  bool calls = false;                 // --calls: budgets over all heads of a call, too
  bool released = false;              // --released: masks by each policy's own threshold, too
};

/// Which of the shared options a subcommand takes.
struct OptionSet {
  bool dump = false, captures = false, pool = false, region = false, rule = false, sparsity = false, compute = false;
};

/// Makes an option that names a file refuse an empty name.
void require_file_name(CLI::Option* option);

/// Makes an option refuse anything but a whole number from `least` to `most`. Number: int, Index or std::uint64_t.
template <typename Number>
void require_whole_number(CLI::Option* option, Number least, Number most = std::numeric_limits<Number>::max());

/// Makes an option refuse anything but a finite number from `least` to `most`.
void require_number(CLI::Option* option, double least, double most = std::numeric_limits<double>::infinity());

/// The text's parts between commas, or what else stands `between` them, in order, empty ones as well.
std::vector<std::string> split(const std::string& text, char between = ',');

/// The whole text as a number, or nothing if it is none.
template <typename Number>
std::optional<Number> parsed(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// A list of texts, between commas or from a repeated option. Refuses an empty text, and one that is not in `known`
/// unless that is empty.
CLI::Option* add_text_list(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                           const std::string& description, const std::vector<std::string>& known = {});

/// An option without a value: `--name=3` is refused.
CLI::Option* add_switch(CLI::App& command, const std::string& name, bool& value, const std::string& description);

/// Adds the chosen options (and always --out, --any-build, --seed, --quiet) to a subcommand. Values are parsed into
/// `options`; a value that does not parse makes CLI11 fail with the option's name.
void add_options(CLI::App& command, Options& options, OptionSet chosen);

/// Adds --remainder.
void add_remainder_option(CLI::App& command, Options& options);

/// The values of the texts, each once, in their order.
template <typename Value>
std::vector<Value> parsed_once(const std::vector<std::string>& texts, Value (*parse)(const std::string&)) {
  std::vector<Value> values;
  for (const std::string& text : texts) {
    if (const Value value = parse(text); std::find(values.begin(), values.end(), value) == values.end()) {
      values.push_back(value);
    }
  }
  return values;
}

/// The chosen values, or the experiment's default if the command line has none.
template <typename T>
std::vector<T> chosen_or(const std::vector<T>& chosen, std::vector<T> otherwise) {
  return chosen.empty() ? std::move(otherwise) : chosen;
}

}  // namespace draft
