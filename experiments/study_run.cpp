#include "experiments/study_run.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <unordered_set>

#include "experiments/maps.hpp"
#include "experiments/study_metrics.hpp"
#include "harness/dump.hpp"
#include "harness/progress.hpp"
#include "harness/provenance.hpp"
#include "harness/record.hpp"

namespace draft {
namespace {

struct HeadTask {
  const CaptureInfo* capture;
  Index head;
  std::uint64_t stream;  // this head's place in the dump: independent of what else is chosen
};

std::vector<HeadTask> chosen_heads(const DumpInfo& info, const Options& options) {
  for (const std::string& name : options.captures) static_cast<void>(info.capture(name));
  for (const Index head : options.heads) {
    if (head < 0 || head >= info.heads) {
      throw UsageError(fmt::format("--heads: {} has heads 0 to {}, found {}", info.path.string(), info.heads - 1, head));
    }
  }
  std::vector<HeadTask> tasks;
  for (std::size_t c = 0; c < info.captures.size(); ++c) {
    const CaptureInfo& capture = info.captures[c];
    const auto& names = options.captures;
    if (!names.empty() && std::find(names.begin(), names.end(), capture.name) == names.end()) continue;
    for (Index head = 0; head < info.heads; ++head) {
      const auto& heads = options.heads;
      if (!heads.empty() && std::find(heads.begin(), heads.end(), head) == heads.end()) continue;
      tasks.push_back({&capture, head, static_cast<std::uint64_t>(c) * static_cast<std::uint64_t>(info.heads) +
                                           static_cast<std::uint64_t>(head)});
    }
  }
  return tasks;
}

Json input_of(const DumpInfo& info, const std::string& sha256, const HeadTask& task) {
  Json input;
  input["dump"] = info.path.filename().string();
  input["sha256"] = sha256;
  input["model"] = info.model;
  input["capture"] = task.capture->name;
  input["layer"] = task.capture->layer;
  input["step"] = task.capture->step;
  if (task.capture->steps) input["steps"] = *task.capture->steps;
  input["head"] = task.head;
  if (!task.capture->model_heads.empty()) input["model_head"] = task.capture->model_heads[task.head];
  input["grid"] = {{"frames", info.grid.frames}, {"height", info.grid.height}, {"width", info.grid.width}};
  input["text_tokens"] = info.grid.text;
  input["head_dim"] = info.head_dim;
  return input;
}

Json config_of(const Cell& cell, const Options& options) {
  Json config;
  config["policy"] = to_string(cell.policy);
  if (cell.policy == Policy::draft) {
    config["pool"] = to_string(cell.pool);
    config["rule"] = to_string(cell.rule);
  }
  config["region"] = {cell.region.height, cell.region.width};
  config["sparsity"] = cell.sparsity;
  config["device"] = options.device;
  config["kernel"] = "reference";
  if (cell.policy == Policy::random) config["seed"] = options.seed;
  return config;
}

Json metrics_json(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) json[name] = value;
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

/// The records of this run's cells by experiment, also those that an earlier run measured.
class Collected {
 public:
  void expect(const Json& cell) { expected_.insert(cell_identity(cell)); }
  void add(const Record& record) {
    if (expected_.erase(cell_identity(record)) > 0) records_[record["experiment"]].push_back(record);
  }
  void add_file(const std::string& path) {
    std::ifstream lines(path);
    for (std::string line; !expected_.empty() && std::getline(lines, line);) add(Record::parse(line));
  }
  [[nodiscard]] const std::vector<Record>& of(const std::string& experiment) { return records_[experiment]; }

 private:
  std::unordered_set<std::string> expected_;
  std::map<std::string, std::vector<Record>> records_;
};

HeadPlan plan_head(const std::vector<StudyExperiment>& experiments, const Json& input, const Options& options,
                   const RecordLog& log, Collected& collected) {
  HeadPlan plan;
  for (std::size_t e = 0; e < experiments.size(); ++e) {
    for (const Cell& cell : experiments[e].cells) {
      Json config = config_of(cell, options);
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

/// Writes a head's records. False if a check failed or a metric was not finite.
bool write_head(HeadStudy& study, const HeadPlan& plan, const std::vector<StudyExperiment>& experiments,
                const Json& input, RecordLog& log, Collected& collected) {
  bool fine = true;
  for (const Wanted& wanted : plan.wanted) {
    const Cell& cell = plan.cells[wanted.cell];
    Metrics metrics = study.metrics(wanted.cell);
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

void append_draft_cells(std::vector<Cell>& cells, const std::vector<RegionSize>& regions, const std::vector<Pool>& pools,
                        const std::vector<Rule>& rules, const std::vector<double>& sparsities, bool with_bounds) {
  for (const RegionSize region : regions) {
    for (const Pool pool : pools) {
      for (const Rule rule : rules) {
        for (const double sparsity : sparsities) {
          cells.push_back({Policy::draft, pool, rule, region, sparsity, with_bounds});
        }
      }
    }
  }
}

void append_scale_ends(std::vector<Cell>& cells, const std::vector<RegionSize>& regions,
                       const std::vector<double>& sparsities, bool with_bounds) {
  for (const Policy policy : {Policy::oracle, Policy::random}) {
    for (const RegionSize region : regions) {
      for (const double sparsity : sparsities) {
        cells.push_back({policy, Pool::average, Rule::softmax, region, sparsity, with_bounds});
      }
    }
  }
}

int run_experiments(const Options& options, const std::vector<StudyExperiment>& experiments) {
  const Dump dump = Dump::open(options.dump);
  const std::vector<HeadTask> tasks = chosen_heads(dump.info(), options);
  const std::string sha256 = sha256_file(options.dump);
  RecordLog log(options.out);
  Collected collected;
  ProgressLine progress("measuring heads", 2 * dump.info().grid.video() * static_cast<Index>(tasks.size()), options.quiet);
  bool fine = true;
  for (const HeadTask& task : tasks) {
    const Json input = input_of(dump.info(), sha256, task);
    const HeadPlan plan = plan_head(experiments, input, options, log, collected);
    if (plan.wanted.empty()) {
      progress.advance(2 * dump.info().grid.video());
      continue;
    }
    const Problem problem = dump.load(*task.capture, task.head);
    HeadStudy study(problem, plan.cells,
                    {options.seed, task.stream, options.threads, [&](Index rows) { progress.advance(rows); }});
    fine = write_head(study, plan, experiments, input, log, collected) && fine;
  }
  progress.finish();
  if (!options.quiet) {
    collected.add_file(options.out);
    for (const StudyExperiment& experiment : experiments) experiment.table(collected.of(experiment.name));
  }
  return fine ? kExitFine : kExitCheckFailed;
}

CLI::App* add_study_command(CLI::App& parent, int& status, const std::string& name, const std::string& question,
                            const std::string& example,
                            std::vector<StudyExperiment> (*experiments)(const Options& options)) {
  CLI::App* command = parent.add_subcommand(name, question);
  command->footer("Example: " + example);
  const auto options = std::make_shared<Options>();
  add_options(*command, *options,
              {.dump = true, .captures = true, .pool = true, .region = true, .rule = true, .sparsity = true, .compute = true});
  command->callback([options, experiments, &status] { status = run_experiments(*options, experiments(*options)); });
  return command;
}

}  // namespace draft
