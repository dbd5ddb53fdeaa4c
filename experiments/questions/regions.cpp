// Question: what does the region's size do to what the mask keeps, and is 8x16 better than 16x16?
// Paper:    Table 5 (HunyuanVideo 768p, 90% sparsity, judged by generated videos).
// Command:  draftbench regions DUMP --out FILE.jsonl
// Output:   records "regions": attention recall and output errors for each region size.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "experiments/questions/questions.hpp"
#include "experiments/study/tables.hpp"

namespace draft {
namespace {

void print_regions(const std::vector<Record>& records) {
  StudyTable table("Region sizes, means over heads: recall of attention mass, relative L2 output error",
                   {"sparsity", "region", "heads", "recall draft", "oracle", "random", "error draft", "oracle",
                    "random", "empty rows"});
  for (const Record& sparsity : distinct_values(records, "sparsity")) {
    for (const Record& region : distinct_values(records, "region")) {
      const auto by = [&](const char* policy) {
        return with_config({{"region", region}, {"sparsity", sparsity}, {"policy", policy}});
      };
      const bool shown = std::ranges::any_of(std::array{"draft", "oracle", "random"}, [&](const char* policy) {
        return count_records(records, by(policy), [](const Record&) { return true; }) > 0;
      });
      if (!shown) continue;
      std::vector<std::string> cells{number(sparsity), region_text(region), fmt::to_string(head_count(records))};
      for (const char* name : {"attention_recall", "output_rel_l2"}) {
        for (const char* policy : {"draft", "oracle", "random"}) {
          cells.push_back(metric_text(mean_metric(records, by(policy), name)));
        }
      }
      cells.push_back(metric_text(mean_metric(records, by("draft"), "empty_rows")));
      table.row(std::move(cells));
    }
  }
  table.print(records.size());
}

}  // namespace

StudyExperiment regions_experiment(const Options& options) {
  const auto regions = chosen_or(options.regions, {RegionSize{4, 8}, RegionSize{8, 8}, RegionSize{8, 16},
                                                   RegionSize{16, 8}, RegionSize{16, 16}, RegionSize{16, 32}});
  const auto sparsities = chosen_sparsities(options);
  StudyExperiment experiment{.name = "regions", .table = print_regions};
  experiment.cells = cells_of(chosen_policies(options), regions, chosen_or(options.pools, {Pool::average}),
                              chosen_or(options.rules, {Rule::softmax}), sparsities);
  return experiment;
}

Command regions_command() {
  return {"regions",
          "Compares region sizes (Table 5)",
          "region sizes (Table 5)",
          "data/photodit_512p.h5 --region 8x16,16x16 --sparsity 0.9 --out regions.jsonl",
          false,
          [](CLI::App& command) { return study_command(command, {regions_experiment}); },
          true};
}

}  // namespace draft
