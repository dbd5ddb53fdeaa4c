// Question: which policy keeps the most attention mass, and loses the least output, at the same number of blocks?
// Paper:    "outperforms existing sparse attention" (section 4); here each policy stands between random and oracle.
// Command:  draftbench policies DUMP [--policy NAMES] --out FILE.jsonl
// Output:   records "policies": attention recall, output errors, empty rows.

#include <fmt/format.h>

#include <algorithm>

#include "experiments/study/tables.hpp"

namespace draft {
namespace {

void print_policies(const std::vector<Record>& records) {
  StudyTable table("Policies, means over heads: recall of attention mass, relative L2 output error",
                   {"region", "sparsity", "policy", "pool", "rule", "heads", "recall", "least", "error", "kept blocks",
                    "empty rows"});
  std::vector<Record> masks = distinct_masks(records);
  std::ranges::stable_sort(masks, {}, [](const Record& one) { return one["sparsity"].get<double>(); });
  for (const Record& mask : masks) {
    const Group group = of_mask(mask);
    const auto mean = [&](const char* name) { return metric_text(mean_metric(records, group, name)); };
    const Index heads = count_records(records, group, [](const Record&) { return true; });
    table.row({region_text(mask["region"]), number(mask["sparsity"]), mask["policy"], word_of_config(mask, "pool"),
               word_of_config(mask, "rule"), fmt::to_string(heads), mean("attention_recall"),
               metric_text(least_metric(records, group, "attention_recall")), mean("output_rel_l2"),
               mean("kept_blocks"), mean("empty_rows")});
  }
  table.print(records.size());
}

std::vector<Policy> policies_to_compare(const Options& options) {
  if (!options.policies.empty()) return parsed_once(options.policies, parse_policy);
  std::vector<Policy> policies = all_policies();
  std::erase_if(policies, [](Policy policy) { return row_of(policy).made_for_tests; });
  return policies;
}

StudyExperiment policies_experiment(const Options& options) {
  return {"policies",
          cells_of(policies_to_compare(options), chosen_or(options.regions, {RegionSize{8, 16}}),
                   chosen_or(options.pools, {Pool::average}), chosen_or(options.rules, {Rule::softmax, Rule::row}),
                   chosen_sparsities(options)),
          false, print_policies};
}

}  // namespace

Command policies_command() {
  return {"policies",
          "Compares mask policies at equal numbers of blocks",
          "mask policies at equal numbers of blocks",
          "data/photodit_512p.h5 --policy draft,oracle --sparsity 0.9 --out policies.jsonl",
          false,
          [](CLI::App& command) { return study_command(command, {policies_experiment}); }};
}

}  // namespace draft
