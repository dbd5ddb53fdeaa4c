#include "experiments/study/run.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <unordered_set>

#include "experiments/input/heads.hpp"
#include "experiments/study/maps.hpp"
#include "experiments/study/metrics.hpp"
#include "harness/dump/dump.hpp"
#include "harness/progress.hpp"
#include "harness/record/provenance.hpp"
#include "harness/record/record.hpp"
#include "reference/parallel.hpp"
#include "reference/units.hpp"

namespace draft {
namespace {

Json cell_config(const Cell& cell, const Options& options) {
  Json config = config_of(cell);
  config["device"] = options.device;
  config["kernel"] = sweeps_name(options.device);
  add_seed(config, cell.policy, options.seed);
  return config;
}

Json metrics_json(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) json[name] = to_json(value);
  return json;
}

/// One cell of one experiment on one head.
struct Wanted {
  std::size_t experiment;
  std::size_t cell;  // index into the head's list of cells
  Json config;
};

/// What is still to be measured on a head; cells that several experiments share are listed once.
struct HeadPlan {
  std::vector<Cell> cells;
  std::vector<Wanted> wanted;
};

struct PlannedHead {
  HeadTask task;
  Json input;
  HeadPlan plan;
};

/// The records of this run's cells by experiment, also those that an earlier run measured.
class Collected {
 public:
  void expect(const Json& cell) { expected_.insert(cell_identity(cell)); }
  void add(const Record& record) {
    if (expected_.erase(cell_identity(record)) > 0) records_[record["experiment"]].push_back(record);
  }
  void add_file(const std::string& path, const RecordLog& log) {
    if (expected_.empty() || path.empty()) return;
    for_each_record(path, [&](const Record& record) {
      if (log.is_done(record)) add(record);
    });
  }
  [[nodiscard]] const std::vector<Record>& of(const std::string& experiment) { return records_[experiment]; }

 private:
  std::unordered_set<std::string> expected_;
  std::map<std::string, std::vector<Record>> records_;
};

HeadPlan plan_head(const std::vector<StudyExperiment>& experiments, const Json& input, const Options& options,
                   RecordLog& log, Collected& collected) {
  HeadPlan plan;
  for (std::size_t e = 0; e < experiments.size(); ++e) {
    for (const Cell& cell : experiments[e].cells) {
      Json config = cell_config(cell, options);
      const Json key{{"experiment", experiments[e].name}, {"input", input}, {"config", config}};
      collected.expect(key);
      if (log.contains(key)) continue;
      const auto known = std::find(plan.cells.begin(), plan.cells.end(), cell);
      plan.wanted.push_back({e, static_cast<std::size_t>(known - plan.cells.begin()), std::move(config)});
      if (known == plan.cells.end()) plan.cells.push_back(cell);
    }
  }
  return plan;
}

struct LoadedHead {
  Problem problem;
  std::optional<HalfHead> half;  // the file's own bits, where a GPU wants them
};

/// The 16-bit type of a dump that a GPU is to measure; none for the CPU, which takes them all.
std::optional<Element> half_element(const DumpInfo& info, const std::string& device) {
  if (device == "cpu") return std::nullopt;
  const auto element = parse_element(info.element);
  if (element == Element::bfloat16 || element == Element::float16) return element;
  throw UsageError(fmt::format("{}: --device cuda wants a dump in bfloat16 or float16, found {}; use --device cpu",
                               file_name(info), info.element));
}

/// A head whose numbers are too large to be measured is refused as input, not a failure of the program.
void require_measurable_input(const Problem& problem) {
  try {
    require_measurable(problem);
  } catch (const std::invalid_argument& error) {
    throw UsageError(error.what());
  }
}

/// Writes a head's records. False if a check failed or a metric was not finite.
bool write_head(HeadStudy& study, const HeadPlan& plan, const std::vector<StudyExperiment>& experiments,
                const Json& input, int threads, RecordLog& log, Collected& collected) {
  std::vector<Metrics> measured(plan.cells.size());
  parallel_for(static_cast<Index>(measured.size()), threads, [&] {
    return [&](Index i) { measured[static_cast<std::size_t>(i)] = study.metrics(static_cast<std::size_t>(i)); };
  });
  bool fine = true;
  for (const Wanted& wanted : plan.wanted) {
    const Cell& cell = plan.cells[wanted.cell];
    Metrics metrics = measured[wanted.cell];
    const StudyExperiment& experiment = experiments[wanted.experiment];
    if (experiment.with_maps) {
      const Metrics character = head_character(study, cell.region);
      metrics.insert(metrics.end(), character.begin(), character.end());
    }
    Json record = make_record(experiment.name, input, wanted.config, metrics_json(metrics));
    if (experiment.with_maps) record["arrays"] = map_arrays(study, cell, study.mask(wanted.cell));
    if (cell.with_bounds && cell.policy != Policy::draft) {
      record["notes"]["theorem_3_5"] =
          "not applicable: the mask does not threshold the draft map; step 1 of the proof holds for every mask";
    }
    if (!all_checks_hold(metrics)) {
      record["status"] = "failed";
      record["reason"] = "a check_* flag is 0: a bound does not hold";
      fine = false;
    }
    fine = log.append(record) && fine;
    collected.add(record);
  }
  return fine;
}

}  // namespace

std::vector<Cell> cells_of(const std::vector<Policy>& policies, const std::vector<RegionSize>& regions,
                           const std::vector<Pool>& pools, const std::vector<Rule>& rules,
                           const std::vector<double>& sparsities, bool with_bounds) {
  std::vector<Cell> cells;
  for (const Policy policy : policies) {
    for (const RegionSize region : regions) {
      for (const MaskChoice& choice : mask_choices(policy, region, pools, rules, sparsities)) {
        cells.push_back({choice, with_bounds});
      }
    }
  }
  return cells;
}

std::vector<Policy> chosen_policies(const Options& options) {
  if (options.policies.empty()) return {Policy::draft, Policy::oracle, Policy::random};
  return parsed_once(options.policies, parse_policy);
}

int run_experiments(const Options& options, const std::vector<StudyExperiment>& experiments) {
  const Dump dump = Dump::open(options.dump);
  const std::vector<HeadTask> tasks = chosen_heads(dump.info(), options);
  const std::string sha256 = sha256_file(options.dump);
  const std::unique_ptr<Sweeps> sweeps = make_sweeps(options.device);
  RecordLog log = open_log(options);
  Collected collected;
  ProgressLine progress("measuring heads", 2 * dump.info().grid.video() * static_cast<Index>(tasks.size()),
                        options.quiet);
  std::vector<PlannedHead> heads;
  for (const HeadTask& task : tasks) {
    const Json input = input_of(dump.info(), sha256, task);
    HeadPlan plan = plan_head(experiments, input, options, log, collected);
    if (plan.wanted.empty()) {
      progress.advance(2 * dump.info().grid.video());
    } else {
      heads.push_back({task, input, std::move(plan)});
    }
  }
  // The next head is read while this one is measured; nobody else reads the dump meanwhile.
  const std::optional<Element> element = half_element(dump.info(), options.device);
  const auto load = [&](std::size_t i) {
    return std::async(std::launch::async, [&, i]() -> LoadedHead {
      const auto& [capture, head, stream] = heads[i].task;
      if (!element) return {dump.load(*capture, head), std::nullopt};
      HalfHead half = dump.load_half(*capture, head, *element);
      return {dump.problem_of(*capture, head, half), std::move(half)};
    });
  };
  bool fine = true;
  std::future<LoadedHead> next = heads.empty() ? std::future<LoadedHead>() : load(0);
  for (std::size_t i = 0; i < heads.size(); ++i) {
    const auto [problem, half] = next.get();
    require_measurable_input(problem);
    if (i + 1 < heads.size()) next = load(i + 1);
    const auto& [task, input, plan] = heads[i];
    HeadStudy study(problem, plan.cells,
                    {.seed = options.seed,
                     .stream = task.stream,
                     .threads = options.threads,
                     .progress = [&](Index rows) { progress.advance(rows); },
                     .sweeps = sweeps.get(),
                     .half = half ? &*half : nullptr});
    fine = write_head(study, plan, experiments, input, options.threads, log, collected) && fine;
  }
  progress.finish();
  if (!options.quiet) {
    collected.add_file(options.out, log);
    for (const StudyExperiment& experiment : experiments) experiment.table(collected.of(experiment.name));
  }
  return fine ? kExitFine : kExitCheckFailed;
}

Action study_command(CLI::App& command, std::vector<Question> questions) {
  const auto options = std::make_shared<Options>();
  add_options(
      command, *options,
      {.dump = true, .captures = true, .pool = true, .region = true, .rule = true, .sparsity = true, .compute = true});
  add_policy_option(command, options->policies, "Whose masks are measured (default draft,oracle,random; see list)",
                    [](const PolicyRow& row) { return row.takes_sparsity; });
  return [options, questions = std::move(questions)] {
    std::vector<StudyExperiment> experiments;
    for (const Question question : questions) experiments.push_back(question(*options));
    return run_experiments(*options, experiments);
  };
}

}  // namespace draft
