// Question: do Theorems 3.3 and 3.5 hold on real heads, how tight are they, and what would be sharper?
// Paper:    Theorems 3.3 and 3.5 (section 3.2, appendix A); the paper measures neither.
// Command:  draftbench bounds DUMP [--remainder none,pooled] --out FILE.jsonl
// Output:   records "bounds": both sides, every proof step, vacuity against sqrt(2n), the sharper bounds; with a pooled
//           remainder its own bounds.

#include <fmt/format.h>

#include "experiments/questions/questions.hpp"
#include "experiments/study/tables.hpp"

namespace draft {
namespace {

void print_bounds(const std::vector<Record>& records) {
  StudyTable table("Theorems 3.3 and 3.5, means over heads; bounds of ||P - P^M||_F as shares of sqrt(2n)",
                   with_remainder(records, {"region", "policy", "pool", "rule", "sparsity", "heads", "3.3 held",
                                            "3.3 tight", "3.5 held", "eq.10 < trivial", "measured", "sharp mu",
                                            "blocks", "radii", "sharp", "eq.10"}));
  for (const Record& mask : distinct_masks(records)) {
    const Group group = of_mask(mask);
    const auto count = [&](const auto& holds) { return fmt::to_string(count_records(records, group, holds)); };
    const auto flags = [&](const std::string& flag) {
      const MetricValue mean = mean_metric(records, group, flag);  // not applicable to masks that no map chose
      return mean.applicable() ? count([&](const Record& metrics) { return metric_of(metrics, flag) == 1.0; }) : "n/a";
    };
    const auto share = [&](const std::string& name) {
      return metric_text(ratio(mean_metric(records, group, name), mean_metric(records, group, "trivial_bound")));
    };
    const bool has_bound = mean_metric(records, group, "vacuity_3_5").applicable();
    const auto below = [](const Record& metrics) {
      const MetricValue vacuity = metric_of(metrics, "vacuity_3_5");
      return vacuity.applicable() && vacuity.number() < 1.0;
    };
    std::vector<std::string> cells{
        region_text(mask["region"]),  mask["policy"],
        word_of_config(mask, "pool"), word_of_config(mask, "rule"),
        number(mask["sparsity"]),     count([](const Record&) { return true; }),
        flags("check_3_3"),           metric_text(mean_metric(records, group, "tightness_3_3")),
        flags("check_3_5"),           has_bound ? count(below) : "n/a",
        share("probs_frobenius"),     share("bound_sharp_mu"),
        share("bound_blocks"),        share("bound_radii"),
        share("bound_sharp"),         share("bound_3_5")};
    table.row(with_remainder(records, std::move(cells), mask));
  }
  table.print(records.size());
}

}  // namespace

StudyExperiment bounds_experiment(const Options& options) {
  const auto pools = chosen_or(options.pools, {Pool::average, Pool::maximum});
  const auto rules = chosen_or(options.rules, {Rule::logits, Rule::softmax, Rule::released, Rule::row});
  const auto regions = chosen_or(options.regions, {RegionSize{8, 16}});
  const auto sparsities = chosen_sparsities(options);
  StudyExperiment experiment{.name = "bounds", .table = print_bounds};
  experiment.cells = cells_of(chosen_policies(options), regions, pools, rules, sparsities, true,
                              chosen_or(options.remainders, {Remainder::none}));
  return experiment;
}

Command bounds_command() {
  return {"bounds",
          "Checks Theorems 3.3 and 3.5: both sides, every proof step, tightness, sharper bounds",
          "Theorems 3.3 and 3.5, every proof step, sharper bounds",
          "data/photodit_512p.h5 --rule softmax,row --sparsity 0.5,0.9 --out bounds.jsonl",
          false,
          [](CLI::App& command) {
            return study_command(command, {bounds_experiment}, kUsualPolicies, add_remainder_option);
          },
          true};
}

}  // namespace draft
