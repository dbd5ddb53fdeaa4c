#pragma once
// Runs experiments that measure cells on the heads of a dump: one study a head serves them all.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "experiments/input/command.hpp"
#include "experiments/study/head.hpp"
#include "harness/options.hpp"

namespace draft {

using Record = nlohmann::ordered_json;

/// One question: the cells that answer it, and the table that shows the answer.
struct StudyExperiment {
  std::string name;  // the record's `experiment`
  std::vector<Cell> cells = {};
  bool with_maps = false;    // records carry the draft map, the block mass and the mask
  bool with_masks = false;   // the mask alone
  bool with_choice = false;  // what choosing costs
  void (*table)(const std::vector<Record>& records) = nullptr;  // prints this experiment's records to stdout
};

/// Measures every cell of every experiment on the chosen captures and heads, skipping those that
/// options.out already holds, appends one record a cell, and prints each experiment's table.
/// Returns kExitCheckFailed if a theorem is violated or a metric is not finite, else kExitFine.
/// Throws UsageError on a capture or head that is not there, on a refused dump and on a device that is not there or
/// does not take a head.
int run_experiments(const Options& options, const std::vector<StudyExperiment>& experiments);

/// The cells and the table of a question, from the command line's choices.
using Question = StudyExperiment (*)(const Options& options);

/// The policies of chosen_policies(), for --help.
inline constexpr const char* kUsualPolicies = "draft,oracle,random";

/// The options of a subcommand over a dump, all that are shared, --policy (`default_policies`: whose masks, without it)
/// and those that `more` adds, and what it does: run_experiments.
Action study_command(CLI::App& command, std::vector<Question> questions,
                     const std::string& default_policies = kUsualPolicies,
                     void (*more)(CLI::App& command, Options& options) = nullptr);

/// A cell for each remainder, and each policy, region (one for policies whose blocks are no regions) and sparsity; for
/// those that read the draft map, for each pooling and rule too.
std::vector<Cell> cells_of(const std::vector<Policy>& policies, const std::vector<RegionSize>& regions,
                           const std::vector<Pool>& pools, const std::vector<Rule>& rules,
                           const std::vector<double>& sparsities, bool with_bounds = false,
                           const std::vector<Remainder>& remainders = {Remainder::none});

/// Those of --sparsity; else what all questions of masks ask, 0.5 to 0.95.
std::vector<double> chosen_sparsities(const Options& options);

/// Those of --policy; else the draft, and both ends of its scale at equal budget: oracle and random.
std::vector<Policy> chosen_policies(const Options& options);

}  // namespace draft
