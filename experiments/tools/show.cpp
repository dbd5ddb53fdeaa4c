// Question: what do these records say, and which of them are about this?
// Command:  draftbench show FILE... [--where CONDITIONS]
// Output:   a table of the records for which all conditions hold, or with --lines the records themselves.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "experiments/input/command.hpp"
#include "harness/options.hpp"
#include "harness/record/record.hpp"
#include "harness/record/where.hpp"
#include "harness/table.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kRows = 40;
constexpr std::size_t kMetrics = 6;     // columns of metrics, where none are asked for
constexpr std::size_t kWidth = 160;     // of the table
constexpr std::size_t kCellBytes = 60;  // of one cell: prompts are long

struct Request {
  std::vector<std::string> files, where, columns;
  std::size_t rows = kRows;
  bool lines = false;
};

struct Shown {
  std::vector<Json> records;  // that are wanted, of each cell the last
  std::size_t read = 0;
};

/// Reads all files; refuses a name that no record has.
Shown wanted_records(const Request& request, const std::vector<Condition>& conditions) {
  std::vector<std::string> names = request.columns;
  for (const Condition& condition : conditions) names.push_back(condition.field);
  std::set<std::string> unknown(names.begin(), names.end());
  Shown all;
  std::map<std::string, std::size_t> place;  // by cell
  for (const std::string& file : request.files) {
    for_each_record(
        file,
        [&](Json record) {
          ++all.read;
          std::erase_if(unknown, [&](const std::string& name) { return !find_field(record, name).is_null(); });
          const auto [found, is_new] = place.try_emplace(cell_identity(record), all.records.size());
          if (is_new) {
            all.records.push_back(std::move(record));
          } else {
            all.records[found->second] = std::move(record);
          }
        },
        request.lines ? "" : "arrays");
  }
  if (all.read == 0) throw UsageError(fmt::format("{}: wanted records, found none", request.files.front()));
  if (!unknown.empty()) {
    throw UsageError(
        fmt::format("wanted fields of these {} records, found that none has '{}'", all.read, shown(*unknown.begin())));
  }
  std::erase_if(all.records, [&](const Json& record) {
    return !std::ranges::all_of(conditions, [&](const Condition& one) { return one.holds(record); });
  });
  return all;
}

/// The names in a part of the records, in the order in which they have them, each with how many have it.
std::vector<std::pair<std::string, std::size_t>> names_in(const std::vector<Json>& records, const char* place) {
  std::vector<std::pair<std::string, std::size_t>> names;
  for (const Json& record : records) {
    if (!part(record, place).is_object()) continue;
    for (const auto& [name, value] : part(record, place).items()) {
      if (value.is_null()) continue;
      const auto known = std::ranges::find(names, name, &std::pair<std::string, std::size_t>::first);
      if (known == names.end()) {
        names.emplace_back(name, 1);
      } else {
        ++known->second;
      }
    }
  }
  return names;
}

/// Whether records have more than one value of a field.
bool varies(const std::vector<Json>& records, const std::string& field) {
  const std::string first = field_text(find_field(records.front(), field));
  return std::ranges::any_of(records, [&](const Json& one) { return field_text(find_field(one, field)) != first; });
}

/// What tells records apart, and then what they measured.
std::vector<std::string> usual_columns(const std::vector<Json>& records) {
  std::vector<std::string> columns{"experiment"};
  for (const char* name : {"status", "dump", "shape", "capture", "head"}) {
    if (varies(records, name) || (std::string(name) == "capture" && !find_field(records[0], name).is_null())) {
      columns.emplace_back(name);
    }
  }
  for (const auto& [name, _] : names_in(records, "config")) {
    if (varies(records, "config." + name)) columns.push_back(name);
  }
  if (std::ranges::any_of(records, [](const Json& one) { return !find_field(one, "timing.median_ms").is_null(); })) {
    columns.emplace_back("median_ms");
  }
  const auto metrics = names_in(records, "metrics");
  std::size_t most = 0, shown_metrics = 0;  // records that share a metric; metrics with a column
  for (const auto& [_, count] : metrics) most = std::max(most, count);
  for (const auto& [name, count] : metrics) {
    if (count == most && shown_metrics++ < kMetrics) columns.push_back(name);
  }
  return columns;
}

std::string cell_text(const Json& value) {
  if (value.is_null()) return "-";
  return value.is_number() ? number(value.get<double>()) : shown(field_text(value), kCellBytes);
}

void print_table(const std::vector<Json>& records, const std::vector<std::string>& names, std::size_t rows) {
  std::vector<Column> columns;
  for (const std::string& name : names) {
    const bool numbers =
        std::ranges::all_of(records, [&](const Json& one) { return !find_field(one, name).is_string(); });
    columns.push_back({name, numbers ? Align::right : Align::left});
  }
  Table table(columns);
  const std::size_t count = rows == 0 ? records.size() : std::min(rows, records.size());
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<std::string> cells;
    for (const std::string& name : names) cells.push_back(cell_text(find_field(records[i], name)));
    table.add_row(std::move(cells));
  }
  table.print(stdout, kWidth);
  if (count < records.size()) fmt::print("... and {} more (--rows 0 shows all)\n", records.size() - count);
}

int show(const Request& request) {
  std::vector<Condition> conditions;
  for (const std::string& text : request.where) {
    for (Condition& one : parse_conditions(text)) conditions.push_back(std::move(one));
  }
  const Shown found = wanted_records(request, conditions);
  if (request.lines) {
    for (const Json& record : found.records) fmt::print("{}\n", record_line(record));
  } else {
    if (!found.records.empty()) {
      print_table(found.records, request.columns.empty() ? usual_columns(found.records) : request.columns,
                  request.rows);
    }
    fmt::print("{} of {} records\n", found.records.size(), found.read);
  }
  return found.records.empty() ? kExitCheckFailed : kExitFine;
}

Action show_options(CLI::App& command) {
  const auto request = std::make_shared<Request>();
  command.add_option("FILE", request->files, "Records: JSON Lines, plain or .gz")->type_name("")->required();
  command
      .add_option(
          "--where", request->where,
          "Conditions between commas, all of which hold: FIELD=VALUE, !=, <, <=, >, >=; VALUE may be A|B. FIELD "
          "is a name in a record or its input, config, metrics, timing, machine or build, or a path "
          "(input.grid.frames)")
      ->type_name("CONDITIONS")
      ->allow_extra_args(false);  // else it would take a FILE behind it
  add_text_list(command, "--columns", request->columns, "Fields to show (what differs, the time, six metrics)");
  require_whole_number(
      command.add_option("--rows", request->rows, fmt::format("Rows of the table at most, 0: all ({})", kRows))
          ->type_name("N"),
      0);
  add_switch(command, "--lines", request->lines, "Prints the records themselves, whole, one a line");
  command.footer(
      "Of several records of one cell the last is shown.\nExit status 0: records are shown; 1: none is wanted; 2: bad input.");
  return [request] { return show(*request); };
}

}  // namespace

Command show_command() {
  return {"show",  "Shows records as a table, those for which conditions hold",
          nullptr, "bounds.jsonl --where pool=avg,sparsity=0.9",
          false,   show_options};
}

}  // namespace draft
