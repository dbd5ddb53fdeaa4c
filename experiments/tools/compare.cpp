#include "experiments/tools/compare.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "harness/options.hpp"
#include "harness/record/where.hpp"
#include "harness/table.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kRows = 40;
constexpr std::size_t kWidth = 120;  // of the table of latencies: names of cells may list many captures

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::regression: return "worse";
    case Verdict::change: return "changed";
    case Verdict::improvement: return "better";
  }
  return "";
}

/// Experiment, capture and head or shape, and those parts of the config that are not the same everywhere.
std::string name_of(const Json& cell, const std::set<std::string>& varying) {
  std::string name = field_text(part(cell, "experiment"));
  const Json& input = part(cell, "input");
  if (!part(input, "capture").is_null()) name += " " + field_text(part(input, "capture"));
  if (part(input, "capture").is_null() && part(input, "shape").is_string())
    name += " " + field_text(part(input, "shape"));
  if (!part(input, "head").is_null()) name += "/" + field_text(part(input, "head"));
  if (!part(cell, "config").is_object()) return name;
  for (const auto& [key, value] : part(cell, "config").items()) {
    if (varying.contains(key)) name += " " + (value.is_number() ? key + "=" : "") + field_text(value);
  }
  return name;
}

bool are_numbers(const Finding& finding) { return finding.before.is_number() && finding.after.is_number(); }

/// Of the two values; NaN where there is none.
double ratio_of(const Finding& finding) {
  if (!are_numbers(finding)) return std::numeric_limits<double>::quiet_NaN();
  return finding.after.get<double>() / finding.before.get<double>();
}

/// How far the values are apart, for sorting: what has no ratio (a status, a missing value, a zero) comes first.
double severity(const Finding& finding) {
  const double distance = std::abs(std::log(std::abs(ratio_of(finding))));
  return std::isnan(distance) ? std::numeric_limits<double>::infinity() : distance;
}

/// As short as can be with the two values still apart.
std::string value_text(const Json& value, const Json& other) {
  if (value.is_null()) return "-";
  if (!value.is_number()) return field_text(value);
  int digits = 4;
  const auto apart = [&] { return number(value.get<double>(), digits) != number(other.get<double>(), digits); };
  while (other.is_number() && digits < std::numeric_limits<double>::max_digits10 && !apart()) ++digits;
  return number(value.get<double>(), digits);
}

void print_findings(const Comparison& comparison, std::size_t rows) {
  std::vector<Finding> findings = comparison.findings;
  std::stable_sort(findings.begin(), findings.end(), [](const Finding& a, const Finding& b) {
    return a.verdict != b.verdict ? a.verdict < b.verdict : severity(a) > severity(b);
  });
  Table table({{"", Align::left},
               {"cell", Align::left},
               {"metric", Align::left},
               {"old"},
               {"new"},
               {"new/old"},
               {"note", Align::left}});
  const std::size_t count = rows == 0 ? findings.size() : std::min(rows, findings.size());
  for (std::size_t i = 0; i < count; ++i) {
    const Finding& finding = findings[i];
    const double ratio = ratio_of(finding);
    table.add_row({name_of(finding.verdict), name_of(finding.cell, comparison.varying), finding.metric,
                   value_text(finding.before, finding.after), value_text(finding.after, finding.before),
                   std::isfinite(ratio) ? value_text(ratio, 1.0) : "-", finding.note});
  }
  if (table.empty()) return;
  table.print();
  if (count < findings.size()) fmt::print("... and {} more (--rows 0 shows all)\n", findings.size() - count);
  fmt::print("\n");
}

std::string ratio_text(double ratio) { return fmt::format("{:.3f}", ratio); }

/// Every cell whose latency was judged, those in which the least could have been seen first.
void print_latencies(const Comparison& comparison, std::size_t rows) {
  if (comparison.judged.empty()) return;
  std::vector<const JudgedLatency*> cells;
  cells.reserve(comparison.judged.size());
  for (const JudgedLatency& cell : comparison.judged) cells.push_back(&cell);
  std::stable_sort(cells.begin(), cells.end(),
                   [](const auto* a, const auto* b) { return a->change.detectable > b->change.detectable; });
  Table table({{"latency of", Align::left}, {"old ms"}, {"new ms"}, {"new/old"}, {"detectable"}});
  const std::size_t count = rows == 0 ? cells.size() : std::min(rows, cells.size());
  for (std::size_t i = 0; i < count; ++i) {
    table.add_row({name_of(cells[i]->cell, comparison.varying), number(cells[i]->before), number(cells[i]->after),
                   ratio_text(cells[i]->change.ratio), ratio_text(cells[i]->change.detectable)});
  }
  table.print(stdout, kWidth);
  if (count < cells.size()) fmt::print("... and {} more (--rows 0 shows all)\n", cells.size() - count);
  fmt::print("\n");
  const double least = cells.back()->change.detectable, most = cells.front()->change.detectable;
  fmt::print("latency: a change of {} would have been found{}", ratio_text(least),
             least == most ? "" : fmt::format(" in the quietest cell, of {} in the noisiest", ratio_text(most)));
  if (const auto& drift = comparison.drift) {
    fmt::print("; all cells together: {} (95% interval {} to {}), cells spread by {:.1f}%\n", ratio_text(drift->ratio),
               ratio_text(drift->low), ratio_text(drift->high), 100.0 * drift->spread);
  } else {
    fmt::print("; fewer than {} cells: a drift of all is not told from changes\n", kFewestCells);
  }
}

/// The comparison for programs.
Json json_of(const Comparison& comparison) {
  const auto side = [](Shift shift) {
    return shift == Shift::slower ? "slower" : shift == Shift::faster ? "faster" : "none";
  };
  Json json{{"cells", comparison.cells}, {"latencies", comparison.latencies}};
  for (const char* list : {"findings", "latency", "only_before", "only_after", "notes"}) json[list] = Json::array();
  for (const Finding& finding : comparison.findings) {
    json["findings"].push_back({{"verdict", name_of(finding.verdict)},
                                {"cell", finding.cell},
                                {"metric", finding.metric},
                                {"before", finding.before},
                                {"after", finding.after},
                                {"note", finding.note}});
  }
  for (const JudgedLatency& cell : comparison.judged) {
    json["latency"].push_back({{"cell", cell.cell},
                               {"before_ms", cell.before},
                               {"after_ms", cell.after},
                               {"ratio", cell.change.ratio},
                               {"detectable", cell.change.detectable},
                               {"change", side(cell.change.shift)}});
  }
  json["drift"] = nullptr;
  if (const auto& drift = comparison.drift) {
    json["drift"] = {{"ratio", drift->ratio},   {"low", drift->low},     {"high", drift->high},
                     {"spread", drift->spread}, {"cells", drift->cells}, {"change", side(drift->shift)}};
  }
  json["only_before"] = comparison.only_before;
  json["only_after"] = comparison.only_after;
  json["notes"] = comparison.notes;
  return json;
}

/// "only in OLD: 3 cells (bounds 2, pooling 1), such as ..."
void print_lacking(const std::string& where, const std::vector<Json>& cells, const std::set<std::string>& varying) {
  if (cells.empty()) return;
  std::map<std::string, std::size_t> experiments;
  for (const Json& cell : cells) ++experiments[field_text(part(cell, "experiment"))];
  std::string counts;
  for (const auto& [experiment, count] : experiments) {
    counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", experiment, count);
  }
  fmt::print("only in {}: {} cells ({}), such as {}\n", where, cells.size(), shown(counts),
             shown(name_of(cells.front(), varying)));
}

struct Request {
  std::string before, after;  // paths
  CompareOptions options;
  std::size_t rows = kRows;
  bool quiet = false, json = false;
};

int compare_files(const Request& request) {
  const std::vector<Json> before = read_records(request.before), after = read_records(request.after);
  const Comparison comparison = compare(before, after, request.options);
  if (comparison.cells == 0) {
    throw UsageError(fmt::format("{} and {}: wanted records of the same cells, found {} and {} cells, none in both",
                                 request.before, request.after, comparison.only_before.size(),
                                 comparison.only_after.size()));
  }
  if (comparison.measured == 0) {  // a gate must not let pass what it did not look at
    throw UsageError(
        fmt::format("{} and {}: wanted a cell with something to compare, found {} in both, without a "
                    "metric or a latency that both sides have",
                    request.before, request.after, comparison.cells));
  }
  if (request.json) fmt::print("{}\n", record_line(json_of(comparison)));
  if (!request.quiet && !request.json) print_comparison(comparison, request.rows);
  return comparison.fails(request.options.strict) ? kExitCheckFailed : kExitFine;
}

}  // namespace

void add_compare_options(CLI::App& command, CompareOptions& options) {
  const auto add_number = [&](const char* name, auto& value, double least, const char* letter,
                              const std::string& description) {
    require_number(command.add_option(name, value, description)->type_name(letter), least);
  };
  add_number("--accuracy-ratio", options.accuracy_ratio, 1.0, "R", "A kernel's error may grow by this factor (1.5)");
  add_number("--accuracy-floor", options.accuracy_floor, 0.0, "F",
             "... and by this much, in the error's own unit (relative errors and outputs: an eighth of the "
             "element's unit roundoff; log-sum-exp: 8 unit roundoffs of float32; shares of a tolerance: 1/16)");
  add_number("--metric-tolerance", options.metric_tolerance, 0.0, "T",
             "Other metrics are changed beyond this relative difference (1e-9); of a *_residual it is absolute");
  add_number(
      "--latency-ratio", options.latency_ratio, 1.0, "R",
      "A cell, or all together, may get slower by this factor; beyond it the samples must tell it from noise (1.05)");
  add_switch(command, "--allow-skipped", options.allow_skipped, "A cell that was measured may be skipped now");
  add_switch(command, "--strict", options.strict, "Changed metrics and cells that are gone fail as well");
}

void print_comparison(const Comparison& comparison, std::size_t rows) {
  print_findings(comparison, rows);
  print_latencies(comparison, rows);
  print_lacking("OLD", comparison.only_before, comparison.varying);
  print_lacking("NEW", comparison.only_after, comparison.varying);
  for (const std::string& note : comparison.notes) fmt::print("{}\n", shown(note));
  fmt::print("{} cells compared, {} with latency: {} worse, {} changed, {} better; {} only in OLD, {} only in NEW\n",
             comparison.cells, comparison.latencies, comparison.count(Verdict::regression),
             comparison.count(Verdict::change), comparison.count(Verdict::improvement), comparison.only_before.size(),
             comparison.only_after.size());
}

namespace {

Action compare_options(CLI::App& command) {
  const auto request = std::make_shared<Request>();
  require_file_name(
      command.add_option("OLD", request->before, "Records to compare with: JSON Lines")->type_name("")->required());
  require_file_name(
      command.add_option("NEW", request->after, "Records to judge: JSON Lines")->type_name("")->required());
  add_compare_options(command, request->options);
  require_whole_number(
      command.add_option("--rows", request->rows, fmt::format("Rows of the table at most, 0: all ({})", kRows))
          ->type_name("N"),
      0);
  add_switch(command, "--quiet", request->quiet, "Prints nothing: the exit status tells");
  add_switch(command, "--json", request->json,
             "Prints one JSON object instead: findings, each cell's smallest detectable change, the drift");
  command.footer("Exit status 0: no worse; 1: worse; 2: bad input.");
  return [request] { return compare_files(*request); };
}

}  // namespace

Command compare_command() {
  return {"compare",      "Compares records with earlier ones of the same cells", nullptr, "old.jsonl new.jsonl", false,
          compare_options};
}

}  // namespace draft
