#include "harness/options.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <functional>

namespace draft {
namespace {

[[noreturn]] void refuse(const std::string& wanted, const std::string& found) {
  throw std::invalid_argument(fmt::format("wanted {}, found '{}'", wanted, found));
}

template <typename Number>
Number parse_at_least_zero(const std::string& text) {
  const auto value = parsed<Number>(text);
  if (!value || *value < Number{0}) refuse("a whole number of at least 0", text);
  return *value;
}

double parse_sparsity(const std::string& text) {
  const auto value = parsed<double>(text);
  if (!value || !(*value >= 0.0 && *value < 1.0)) refuse("a number of at least 0 and below 1", text);
  return *value + 0.0;  // turns -0.0 into 0.0, so that both are the same cell
}

std::string parse_device(const std::string& text) {
  if (text != "cpu" && text != "cuda") refuse("cpu or cuda", text);
  return text;
}

/// Runs a parser; if it throws, the error names the option. What other layers' parsers put before "wanted" ("pool:
/// wanted ...") is dropped, since the option's name says it.
template <typename Value>
Value parse_for(const std::string& option, const std::string& text,
                const std::function<Value(const std::string&)>& parse) {
  try {
    return parse(text);
  } catch (const std::invalid_argument& error) {
    const std::string message = error.what();
    const std::size_t wanted = message.find("wanted");
    throw CLI::ValidationError(option, wanted == std::string::npos ? message : message.substr(wanted));
  }
}

/// Values between commas or from a repeated option; a value given twice counts once.
template <typename Value>
CLI::Option* add_list(CLI::App& command, const std::string& name, std::vector<Value>& values,
                      std::function<Value(const std::string&)> parse, const std::string& description) {
  const auto read = [name, &values, parse = std::move(parse)](const std::vector<std::string>& texts) {
    values.clear();
    for (const std::string& text : texts) {
      for (const std::string& one : split(text)) {
        const Value value = parse_for<Value>(name, one, parse);
        if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
      }
    }
  };
  return command.add_option_function<std::vector<std::string>>(name, read, description)
      ->allow_extra_args(false)  // the next argument is the command's, not one more value of this list
      ->type_name("LIST");
}

template <typename Value>
CLI::Option* add_value(CLI::App& command, const std::string& name, Value& value,
                       std::function<Value(const std::string&)> parse, const std::string& description) {
  const auto read = [name, &value, parse = std::move(parse)](const std::string& text) {
    value = parse_for<Value>(name, text, parse);
  };
  return command.add_option_function<std::string>(name, read, description);
}

}  // namespace

void require_file_name(CLI::Option* option) {
  option->check(CLI::Validator(
      [](const std::string& text) { return text.empty() ? "wanted the name of a file, found ''" : std::string(); },
      ""));
}

template <typename Number>
void require_whole_number(CLI::Option* option, Number least, Number most) {
  const auto check = [least, most](const std::string& text) -> std::string {
    const auto value = parsed<Number>(text);
    if (value && *value >= least && *value <= most) return "";
    return fmt::format("wanted a whole number from {} to {}, found '{}'", least, most, text);
  };
  option->check(CLI::Validator(check, ""));
}
template void require_whole_number(CLI::Option* option, int least, int most);
template void require_whole_number(CLI::Option* option, Index least, Index most);
template void require_whole_number(CLI::Option* option, std::uint64_t least, std::uint64_t most);

void require_number(CLI::Option* option, double least, double most) {
  const std::string wanted =
      std::isfinite(most) ? fmt::format("from {} to {}", least, most) : fmt::format("of at least {}", least);
  const auto check = [least, most, wanted](const std::string& text) -> std::string {
    const auto value = parsed<double>(text);
    if (value && std::isfinite(*value) && *value >= least && *value <= most) return "";  // NaN passes a range check
    return fmt::format("wanted a number {}, found '{}'", wanted, text);
  };
  option->check(CLI::Validator(check, ""));
}

std::vector<std::string> split(const std::string& text, char between) {
  std::vector<std::string> parts(1);
  for (const char letter : text) {
    if (letter == between) {
      parts.emplace_back();
    } else {
      parts.back() += letter;
    }
  }
  return parts;
}

CLI::Option* add_text_list(CLI::App& command, const std::string& name, std::vector<std::string>& values,
                           const std::string& description, const std::vector<std::string>& known) {
  const auto parse = [known](const std::string& text) {
    const bool is_known = known.empty() || std::find(known.begin(), known.end(), text) != known.end();
    if (text.empty() || !is_known) refuse(known.empty() ? "a name" : fmt::format("{}", fmt::join(known, ", ")), text);
    return text;
  };
  return add_list<std::string>(command, name, values, parse, description);
}

CLI::Option* add_switch(CLI::App& command, const std::string& name, bool& value, const std::string& description) {
  const auto check = [](const std::string& text) {
    return text == "true" ? std::string() : fmt::format("wanted no value, found '{}'", text);
  };
  return command.add_flag(name, value, description)->check(CLI::Validator(check, ""));
}

void add_options(CLI::App& command, Options& options, OptionSet chosen) {
  if (chosen.dump) {
    CLI::Option* dump = command.add_option("DUMP", options.dump, "The dump: an HDF5 file of captured Q/K/V");
    require_file_name(dump->type_name("")->required());
  }
  if (chosen.captures) {
    command.add_option("--capture", options.captures, "Captures by name, such as a,b (default: all)")
        ->allow_extra_args(false)
        ->type_name("LIST");
    add_list<Index>(command, "--heads", options.heads, parse_at_least_zero<Index>, "Heads, such as 0,2 (default: all)");
  }
  if (chosen.pool) add_list<Pool>(command, "--pool", options.pools, parse_pool, "How regions are pooled: avg, max");
  if (chosen.region) {
    add_list<RegionSize>(command, "--region", options.regions, parse_region_size,
                         "Region sizes HxW in tokens of one frame, such as 8x16,16x16");
  }
  if (chosen.rule) {
    add_list<Rule>(command, "--rule", options.rules, parse_rule,
                   "How blocks are selected: logits, softmax, released, row");
  }
  if (chosen.sparsity) {
    add_list<double>(command, "--sparsity", options.sparsities, parse_sparsity,
                     "Shares of blocks left out, in [0, 1), such as 0.5,0.75,0.9");
  }
  if (chosen.compute) {
    add_value<std::string>(command, "--device", options.device, parse_device, "Where to compute: cpu (default), cuda")
        ->type_name("NAME");
    add_value<int>(command, "--threads", options.threads, parse_at_least_zero<int>, "Threads (default 0: all cores)")
        ->type_name("N");
  }
  require_file_name(
      command.add_option("--out", options.out, "JSON Lines file to append records to")->type_name("FILE"));
  add_switch(command, "--any-build", options.any_build, "Cells in FILE that another build measured are done");
  add_value<std::uint64_t>(command, "--seed", options.seed, parse_at_least_zero<std::uint64_t>,
                           "Seed of everything random (default 1)")
      ->type_name("N");
  add_switch(command, "--quiet", options.quiet, "No progress and no table");
}

void add_remainder_option(CLI::App& command, Options& options) {
  add_list<Remainder>(command, "--remainder", options.remainders, parse_remainder,
                      "What stands for dropped blocks: none (default), pooled");
}

}  // namespace draft
