#include "experiments/verify/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "experiments/input/masks.hpp"
#include "harness/table.hpp"
#include "reference/problem.hpp"

namespace draft {
namespace {

/// The worst of one kernel on one case.
struct Line {
  Index runs = 0, failed = 0;
  double rel_l2 = 0, block = 0, element = 0, row = 0, lse = 0;

  void add(const Json& record) {
    ++runs;
    failed += record["status"] == "failed" ? 1 : 0;
    const auto raise = [&](double& worst, const char* name) {
      // Relative to nothing is no error; a metric that is gone was not finite.
      const Json& found = part(record["metrics"], name);
      if (is_not_applicable(found)) return;
      const double value = found.is_number() ? found.get<double>() : std::numeric_limits<double>::quiet_NaN();
      if (!(value <= worst)) worst = value;
    };
    raise(rel_l2, "kernel_rel_l2");
    raise(block, "kernel_worst_block_rel_l2");
    raise(element, "kernel_element_over_tolerance");
    raise(row, "kernel_row_over_tolerance");
    raise(lse, "kernel_lse_over_tolerance");
  }
};

/// Kernel, region and mask.
std::vector<std::string> line_of(const Json& config) {
  const std::string mask = config["policy"] == "draft"
                               ? fmt::format("{} {} {}", config["pool"].get<std::string>(),
                                             config["rule"].get<std::string>(), number(config["sparsity"]))
                               : config["policy"].get<std::string>();
  return {config["kernel"], region_text(config["region"]), mask};
}

}  // namespace

void print_verification(const std::vector<Json>& records) {
  std::vector<std::pair<std::vector<std::string>, Line>> lines;
  std::vector<std::string> notes;
  for (const Json& record : records) {
    const Json& config = record["config"];
    const std::vector<std::string> key = line_of(config);
    if (record["status"] == "skipped") {
      const std::string note = fmt::format("skipped: {} on {} in {} order: {}", key[0], key[1],
                                           config["order"].get<std::string>(), record["reason"].get<std::string>());
      if (std::find(notes.begin(), notes.end(), note) == notes.end()) notes.push_back(note);
      continue;
    }
    auto found = std::find_if(lines.begin(), lines.end(), [&](const auto& line) { return line.first == key; });
    if (found == lines.end()) found = lines.insert(lines.end(), {key, {}});
    found->second.add(record);
    if (record["status"] == "failed") {
      const Json& input = record["input"];
      notes.push_back(fmt::format("FAILED: {} on {}, {}, {} order, {} head {}: {}", key[0], key[1], key[2],
                                  config["order"].get<std::string>(), input["capture"].get<std::string>(),
                                  input["head"].get<Index>(), record.value("reason", "")));
    }
  }
  fmt::print(
      "Kernels against the float64 reference under one mask; the worst over heads and token orders.\n"
      "Shares of what rounding explains: above 1 is a failure.\n");
  Table table({{"kernel", Align::left},
               {"region", Align::left},
               {"mask", Align::left},
               {"runs"},
               {"failed"},
               {"rel. L2"},
               {"worst block"},
               {"element"},
               {"row"},
               {"lse"}});
  for (const auto& [key, line] : lines) {
    table.add_row({key[0], key[1], key[2], fmt::to_string(line.runs), fmt::to_string(line.failed),
                   number(line.rel_l2, 3), number(line.block, 3), number(line.element, 3), number(line.row, 3),
                   number(line.lse, 3)});
  }
  table.print();
  for (const std::string& note : notes) fmt::print("{}\n", note);
  fmt::print("\n");
}

}  // namespace draft
