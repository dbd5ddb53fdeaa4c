// Question: which policy keeps the most attention mass, and loses the least output, at the same number of blocks?
// Paper:    "outperforms existing sparse attention" (section 4); here each policy stands between random and oracle.
// Command:  draftbench policies DUMP [--policy NAMES] [--remainder none,pooled] [--calls] [--released] [--masks]
//           --out FILE
// Output:   records "policies": attention recall, output errors, empty rows, what choosing and a remainder cost.

#include <fmt/format.h>

#include <algorithm>

#include "experiments/study/tables.hpp"

namespace draft {
namespace {

void print_policies(const std::vector<Record>& records) {
  StudyTable table("Policies, means over heads: recall of attention mass, relative L2 output error",
                   with_remainder(records, {"blocks", "sparsity", "policy", "pool", "rule", "heads", "recall", "least",
                                            "error", "kept share", "empty rows", "choosing", "budget"}));
  std::vector<Record> masks = distinct_masks(records);
  std::ranges::stable_sort(masks, {}, [](const Record& one) { return one.value("sparsity", 2.0); });
  for (const Record& mask : masks) {
    const Group group = of_mask(mask);
    const auto mean = [&](const char* name) { return metric_text(mean_metric(records, group, name)); };
    const Index heads = count_records(records, group, [](const Record&) { return true; });
    const auto share = [&](const char* part, const char* whole) {
      return metric_text(ratio(mean_metric(records, group, part), mean_metric(records, group, whole)));
    };
    std::vector<std::string> cells{
        mask.contains("block_layout") ? word_of_config(mask, "block_layout") : region_text(mask["region"]),
        mask.contains("sparsity") ? number(mask["sparsity"]) : word_of_config(mask, "budget"),
        mask["policy"],
        word_of_config(mask, "pool"),
        word_of_config(mask, "rule"),
        fmt::to_string(heads),
        mean("attention_recall"),
        metric_text(least_metric(records, group, "attention_recall")),
        mean("output_rel_l2"),
        mean_metric(records, group, "kept_area").applicable() ? mean("kept_area")
                                                              : share("kept_blocks", "total_blocks"),
        mean("empty_rows"),
        mean("choosing_flops_share"),
        word_of_config(mask, "budget")};
    table.row(with_remainder(records, std::move(cells), mask));
  }
  table.print(records.size());
}

std::vector<Policy> policies_to_compare(const Options& options) {
  if (!options.policies.empty()) return parsed_once(options.policies, parse_policy);
  std::vector<Policy> policies = all_policies();
  // Without names, what the device can measure: blocks of many sizes are for the CPU.
  const bool any_size = options.device == "cpu";
  std::erase_if(policies, [&](Policy policy) {
    return row_of(policy).made_for_tests || (!any_size && row_of(policy).find_clusters != nullptr);
  });
  return policies;
}

StudyExperiment policies_experiment(const Options& options) {
  const std::vector<Policy> policies = policies_to_compare(options);
  const std::vector<RegionSize> regions = chosen_or(options.regions, {RegionSize{8, 16}});
  const std::vector<Remainder> remainders = chosen_or(options.remainders, {Remainder::none});
  StudyExperiment experiment{.name = "policies",
                             .cells = cells_of(policies, regions, chosen_or(options.pools, {Pool::average}),
                                               chosen_or(options.rules, {Rule::softmax, Rule::row}),
                                               chosen_sparsities(options), false, remainders),
                             .with_masks = options.masks,
                             .with_choice = true,
                             .table = print_policies};
  if (options.calls) {
    for (const Policy policy : policies) {
      if (row_of(policy).scores == nullptr) continue;
      for (Cell cell : cells_of({policy}, regions, chosen_or(options.pools, {Pool::average}), {Rule::softmax},
                                chosen_sparsities(options))) {
        cell.by_call = true;
        experiment.cells.push_back(cell);
      }
    }
  }
  if (options.released) {
    for (const Policy policy : policies) {
      if (row_of(policy).released == nullptr) continue;
      for (Cell cell : cells_of({policy}, regions, {Pool::average}, {Rule::softmax}, {0.0}, false, remainders)) {
        cell.released = true;
        experiment.cells.push_back(cell);
      }
    }
  }
  return experiment;
}

void add_policies_options(CLI::App& command, Options& options) {
  add_remainder_option(command, options);
  add_switch(command, "--calls", options.calls,
             "Budgets over all heads of a call, too, where scores compare between heads (draft by softmax, oracle)");
  add_switch(command, "--released", options.released, "Masks by each policy's own threshold, as it was released, too");
  add_switch(command, "--masks", options.masks, "Records carry the masks");
}

}  // namespace

Command policies_command() {
  return {"policies",
          "Compares mask policies at equal numbers of blocks",
          "mask policies at equal numbers of blocks",
          "data/photodit_512p.h5 --policy draft,oracle --sparsity 0.9 --out policies.jsonl",
          false,
          [](CLI::App& command) { return study_command(command, {policies_experiment}, "all", add_policies_options); },
          true};
}

}  // namespace draft
