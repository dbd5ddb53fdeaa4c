// Question: does average pooling choose better blocks than max pooling, and how far are both from the
//           best and from chance at the same budget?
// Paper:    Table 4 and Figure 6 (HunyuanVideo 768p, 90% sparsity, judged by generated videos).
// Command:  draftbench pooling DUMP --out FILE.jsonl
// Output:   records "pooling": attention recall and output errors.

#include <fmt/format.h>

#include "experiments/questions/questions.hpp"
#include "experiments/study/tables.hpp"

namespace draft {
namespace {

void print_pooling(const std::vector<Record>& records) {
  StudyTable table("Average against max pooling, means over heads: recall of attention mass, relative L2 output error",
                   {"region", "rule", "sparsity", "heads", "recall avg", "recall max", "oracle", "random", "error avg",
                    "error max", "oracle", "random"});
  for (const Record& region : distinct_values(records, "region")) {
    for (const Record& rule : distinct_values(records, "rule")) {
      for (const Record& sparsity : distinct_values(records, "sparsity")) {
        const auto drafted = [&](const char* pool) {
          return with_config({{"region", region}, {"sparsity", sparsity}, {"rule", rule}, {"pool", pool}});
        };
        const auto end = [&](const char* policy) {
          return with_config({{"region", region}, {"sparsity", sparsity}, {"policy", policy}});
        };
        std::vector<std::string> cells{region_text(region), rule, number(sparsity),
                                       fmt::to_string(head_count(records))};
        for (const char* name : {"attention_recall", "output_rel_l2"}) {
          for (const Group& group : {drafted("avg"), drafted("max"), end("oracle"), end("random")}) {
            cells.push_back(metric_text(mean_metric(records, group, name)));
          }
        }
        table.row(std::move(cells));
      }
    }
  }
  table.print(records.size());
}

}  // namespace

StudyExperiment pooling_experiment(const Options& options) {
  const auto regions = chosen_or(options.regions, {RegionSize{8, 16}});
  const auto sparsities = chosen_sparsities(options);
  StudyExperiment experiment{.name = "pooling", .table = print_pooling};
  experiment.cells =
      cells_of(chosen_policies(options), regions, chosen_or(options.pools, {Pool::average, Pool::maximum}),
               chosen_or(options.rules, {Rule::softmax, Rule::row}), sparsities);
  return experiment;
}

Command pooling_command() {
  return {"pooling",
          "Compares average with max pooling, between oracle and random masks (Table 4)",
          "average against max pooling (Table 4)",
          "data/photodit_512p.h5 --sparsity 0.5,0.75,0.9 --out pooling.jsonl",
          false,
          [](CLI::App& command) { return study_command(command, {pooling_experiment}); },
          true};
}

}  // namespace draft
