#include "experiments/study/run.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "experiments/study/call_budgets.hpp"
#include "experiments/study/collected.hpp"
#include "experiments/study/head_reader.hpp"
#include "experiments/study/head_studies.hpp"
#include "experiments/study/maps.hpp"
#include "experiments/study/metrics.hpp"
#include "harness/dump/dump.hpp"
#include "harness/progress.hpp"
#include "harness/ranks/ranks.hpp"
#include "harness/record/record.hpp"
#include "reference/parallel.hpp"

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
struct PlannedHead : HeadSource {
  Json input;
  std::vector<Cell> cells;
  std::vector<Wanted> wanted;
};

/// A call whose budgets are wanted: its planned heads, and their cells that take them.
struct Call {
  const CaptureInfo* capture;
  std::vector<PlannedHead*> heads{};
  std::vector<Cell> cells{};

  void find_cells() {
    for (const PlannedHead* head : heads) {
      for (const Cell& cell : head->cells) {
        if (cell.by_call && std::ranges::find(cells, cell) == cells.end()) cells.push_back(cell);
      }
    }
  }
  /// `cuts`: [cell][head].
  void set_cuts(const Json& cuts) {
    for (PlannedHead* head : heads) {
      for (Cell& cell : head->cells) {
        const auto known = std::ranges::find(cells, cell);
        if (known == cells.end()) continue;
        const Json& of_cell = cuts[static_cast<std::size_t>(known - cells.begin())];
        cell.cut = of_cell[static_cast<std::size_t>(head->task.head)].get<Index>();
      }
    }
  }
};

/// How many layouts the cells have; of those that a head chooses between, both.
Index count_layouts(const std::vector<StudyExperiment>& experiments) {
  std::set<BlockLayout> layouts;
  for (const StudyExperiment& experiment : experiments) {
    for (const Cell& cell : experiment.cells) {
      const BlockLayout layout = row_of(cell.policy).layout;
      if (layout == BlockLayout::by_head) {
        layouts.insert({BlockLayout::raster, BlockLayout::frame_last});
      } else {
        layouts.insert(layout);
      }
    }
  }
  return static_cast<Index>(std::max<std::size_t>(layouts.size(), 1));
}

/// The GPU's sweeps know no bounds of a remainder, and regions of one size alone.
void require_device(const std::vector<StudyExperiment>& experiments, const std::string& device) {
  if (device == "cpu") return;
  for (const StudyExperiment& experiment : experiments) {
    for (const Cell& cell : experiment.cells) {
      if (cell.remainder != Remainder::none && cell.with_bounds) {
        throw UsageError(fmt::format("{}: --remainder {} wants --device cpu, found --device {}", experiment.name,
                                     to_string(cell.remainder), device));
      }
      if (row_of(cell.policy).find_clusters != nullptr) {
        throw UsageError(
            fmt::format("--policy {}, whose blocks are of many sizes, wants --device cpu, found --device {}",
                        to_string(cell.policy), device));
      }
    }
  }
}

/// The cells that causal heads have; a line on stderr names the policies that are left out. Those whose blocks are in
/// token order take --region's, since a causal grid is a row of tokens.
std::vector<StudyExperiment> causal_experiments(std::vector<StudyExperiment> experiments, const Options& options,
                                                const Ranks& ranks) {
  std::set<std::string> left_out;
  std::size_t cells = 0;
  for (StudyExperiment& experiment : experiments) {
    std::erase_if(experiment.cells, [&](const Cell& cell) {
      const bool is_causal = row_of(cell.policy).causal;
      if (!is_causal) left_out.insert(to_string(cell.policy));
      return !is_causal;
    });
    for (Cell& cell : experiment.cells) {
      if (row_of(cell.policy).layout == BlockLayout::raster && !options.regions.empty()) {
        cell.region = options.regions.front();
      }
    }
    cells += experiment.cells.size();
  }
  const std::string names = fmt::format("{}", fmt::join(left_out, ", "));
  if (cells == 0) throw UsageError("--policy: wanted one that is for causal attention, too, found " + names);
  if (!left_out.empty()) ranks.say("skipped(not for causal attention): " + names + "\n");
  return experiments;
}

/// Choosing blocks and reading off metrics is the host's work and takes longer than a GPU's sweeps, so that a GPU
/// measures several heads at once: each has its numbers in memory and its own scratch on the GPU. The CPU's sweeps take
/// all cores for one head.
constexpr int kHeadsAtOnceOnGpu = 8;

/// Of as many heads as are measured at once.
std::vector<std::unique_ptr<Sweeps>> sweeps_at_once(const std::string& device, int threads) {
  const int heads = device == "cpu" ? 1 : std::min(kHeadsAtOnceOnGpu, threads);
  std::vector<std::unique_ptr<Sweeps>> sweeps;
  for (int i = 0; i < heads; ++i) sweeps.push_back(make_sweeps(device));
  return sweeps;
}

/// What a run has to measure and what it has measured: plans, records, progress.
class StudyRun {
 public:
  StudyRun(const Dump& dump, const Options& options, const std::vector<StudyExperiment>& experiments, Ranks& ranks)
      : options_(options),
        experiments_(experiments),
        ranks_(ranks),
        threads_(thread_count(ranks.threads(options.threads))),
        tasks_(chosen_heads(dump.info(), options)),
        sweeps_(sweeps_at_once(options.device, threads_)),
        half_(half_element(dump.info(), options.device)),
        heads_of_a_call_(dump.info().heads),
        log_(ranks.is_first() ? open_log(options) : RecordLog()),
        rows_(2 * dump.info().grid.video() * count_layouts(experiments)),
        progress_("measuring heads", rows_ * static_cast<Index>(tasks_.size()), options.quiet || !ranks.is_first()) {
    const std::string sha256 = digest_on_all(ranks_, options.dump);
    const auto plan_all = [&] {
      for (const HeadTask& task : tasks_) plan(dump.info(), task, input_of(dump.info(), sha256, task));
    };
    // The first rank has the file of records, and tells the others which cells are done.
    if (ranks_.is_first()) plan_all();
    done_ = ranks_.shared(done_);
    if (!ranks_.is_first()) plan_all();
    if (without_earlier_ > 0) {
      ranks_.say(fmt::format(
          "{} of {} heads: the dump has no earlier step of them; policies that take their masks from one are left out\n",
          without_earlier_, tasks_.size()));
    }
  }

  /// Gives the cells whose budget is of all heads of a call their cuts, from one look at each of those heads, chosen or
  /// not. The ranks share the calls. A head that lacks an earlier step leaves its call's policies that want one without
  /// a record.
  void share_budgets(const Dump& dump) {
    std::vector<Call> calls;
    for (PlannedHead& head : heads_) {
      if (std::ranges::none_of(head.cells, &Cell::by_call)) continue;
      if (calls.empty() || calls.back().capture != head.task.capture) calls.push_back({head.task.capture});
      calls.back().heads.push_back(&head);
    }
    if (calls.empty()) return;
    if (dump.info().heads == 1) {
      ranks_.say("the dump has one head of a call: a budget over all heads of a call is that head's own\n");
    }
    for (Call& call : calls) call.find_cells();
    std::vector<double> costs(calls.size(), 1.0);
    Json all_cuts = Json::array();  // [call][cell][head]
    for (std::size_t i = 0; i < calls.size(); ++i) all_cuts.push_back(nullptr);
    const auto keep = [&](std::size_t call, const std::vector<Json>& cuts) { all_cuts[call] = cuts; };
    SharedWork units(ranks_, {costs, keep, [](Index) {}});
    while (const auto i = units.take()) units.deliver(*i, cuts_of(dump, calls[*i]));
    units.finish();
    all_cuts = Json::parse(ranks_.shared(all_cuts.dump()));
    for (std::size_t i = 0; i < calls.size(); ++i) calls[i].set_cuts(all_cuts[i]);
  }

  /// Measures the planned heads, which the ranks share, and has their records written. A check that failed and a metric
  /// that is not finite make the run's status.
  void measure(const Dump& dump) {
    std::vector<double> costs;
    for (const PlannedHead& head : heads_) costs.push_back(cost_of(dump.info(), head));
    const auto write = [this](std::size_t, const std::vector<Json>& records) {
      for (const Json& record : records) {
        fine_ = log_.append(record) && record["status"] == "ok" && fine_;
        collected_.add(record);
      }
    };
    SharedWork units(ranks_, {costs, write, [this](Index rows) { progress_.advance(rows); }});
    {
      HeadReader reader(dump, {heads_.begin(), heads_.end()}, half_, [&] { return units.take(); });
      measure_in_order(
          reader, sweeps_.size(),
          [&](std::size_t i, const LoadedHead& head) {
            StudySettings here = settings(i, heads_[i].task, head);
            here.progress = [&](Index rows) { units.advance(rows); };
            const HeadStudies studies(head, heads_[i].cells, here, true);  // both passes over the logits
            return records_of(studies, heads_[i], here.threads);
          },
          [&](std::size_t i, std::vector<Json> records) { units.deliver(i, std::move(records)); });
    }
    units.finish();
  }

  /// Prints each experiment's table, of what earlier runs measured too. Returns the exit status; the first rank's
  /// counts.
  int show() {
    progress_.finish();
    if (!options_.quiet && ranks_.is_first()) {
      collected_.add_file(options_.out, log_);
      for (const StudyExperiment& experiment : experiments_) experiment.table(collected_.take(experiment.name));
    }
    return fine_ ? kExitFine : kExitCheckFailed;
  }

 private:
  /// Of the i-th head that is measured, which has the sweeps and the threads of one of those at once.
  StudySettings settings(std::size_t i, const HeadTask& task, const LoadedHead& head) {
    const auto at_once = static_cast<int>(sweeps_.size());
    return {.seed = options_.seed,
            .stream = task.stream,
            .threads = std::max(1, threads_ / at_once),
            .sweeps = sweeps_[i % sweeps_.size()].get(),
            .half = head.half ? &*head.half : nullptr};
  }

  [[nodiscard]] std::vector<Json> records_of(const HeadStudies& studies, const PlannedHead& head, int threads) const {
    std::vector<Metrics> measured(head.cells.size());
    parallel_for(static_cast<Index>(measured.size()), threads, [&] {
      return [&](Index i) {
        const auto [study, number] = studies.of(static_cast<std::size_t>(i));
        measured[static_cast<std::size_t>(i)] = study->metrics(number);
      };
    });
    std::vector<Json> records;
    for (const Wanted& wanted : head.wanted) records.push_back(record_of(studies, head, wanted, measured[wanted.cell]));
    return records;
  }

  /// The earlier capture of a head, if one of the cells wants it and there is one.
  static const CaptureInfo* earlier_of(const DumpInfo& info, const HeadTask& task, const std::vector<Cell>& cells) {
    const bool wanted =
        std::ranges::any_of(cells, [](const Cell& cell) { return row_of(cell.policy).reads == Reads::earlier; });
    return wanted ? earlier_capture(info, task) : nullptr;
  }

  /// Whether the cell need not be measured; called for the same cells in the same order on all ranks.
  bool is_done(const Json& cell) {
    if (!ranks_.is_first()) return done_.at(asked_++) == '1';
    done_ += log_.contains(cell) ? '1' : '0';
    return done_.back() == '1';
  }

  /// The cuts of the call's cells, [cell][head].
  std::vector<Json> cuts_of(const Dump& dump, const Call& call) {
    std::vector<HeadSource> looked_at;
    for (const HeadTask& task : heads_of_call(dump.info(), *call.capture)) {
      looked_at.push_back({task, earlier_of(dump.info(), task, call.cells)});
    }
    CallBudgets budgets(call.cells);
    HeadReader reader(dump, looked_at, half_);
    measure_in_order(
        reader, sweeps_.size(),
        [&](std::size_t i, const LoadedHead& head) {
          const HeadStudies studies(head, call.cells, settings(i, looked_at[i].task, head), false);
          return budgets.look([&](std::size_t cell) { return studies.of(cell).first->input(call.cells[cell]); });
        },
        [&](std::size_t, std::vector<CallLook> look) { budgets.add(std::move(look)); });
    std::vector<Json> cuts;
    for (std::size_t cell = 0; cell < call.cells.size(); ++cell) {
      Json of_cell = Json::array();
      for (const HeadSource& source : looked_at) of_cell.push_back(budgets.cut(cell, source.task.head));
      cuts.push_back(std::move(of_cell));
    }
    return cuts;
  }

  /// Two passes over the logits of each layout, in which each cell adds less than a pass over one channel.
  static double cost_of(const DumpInfo& info, const PlannedHead& head) {
    std::set<BlockLayout> layouts;
    for (const Cell& cell : head.cells) layouts.insert(row_of(cell.policy).layout);
    const auto tokens = static_cast<double>(info.grid.tokens());
    const auto passes = static_cast<double>(2 * info.head_dim) * static_cast<double>(layouts.size());
    return tokens * tokens * (passes + static_cast<double>(head.cells.size()));
  }

  void plan(const DumpInfo& info, const HeadTask& task, Json input) {
    PlannedHead head{{task}, std::move(input), {}, {}};
    const CaptureInfo* earlier = earlier_capture(info, task);
    const std::vector<HeadTask> call = heads_of_call(info, *task.capture);
    const bool all_have_earlier =
        std::ranges::all_of(call, [&](const HeadTask& other) { return earlier_capture(info, other) != nullptr; });
    bool left_out = false;
    for (std::size_t e = 0; e < experiments_.size(); ++e) {
      for (const Cell& cell : experiments_[e].cells) {
        const bool wants_earlier = row_of(cell.policy).reads == Reads::earlier;
        if (wants_earlier && (cell.by_call ? !all_have_earlier : earlier == nullptr)) {
          left_out = true;
          continue;
        }
        Json config = cell_config(cell, options_);
        const Json key{{"experiment", experiments_[e].name}, {"input", head.input}, {"config", config}};
        collected_.expect(key);
        if (is_done(key)) continue;
        if (wants_earlier) head.earlier = earlier;
        const auto known = std::find(head.cells.begin(), head.cells.end(), cell);
        head.wanted.push_back({e, static_cast<std::size_t>(known - head.cells.begin()), std::move(config)});
        if (known == head.cells.end()) head.cells.push_back(cell);
      }
    }
    if (left_out) ++without_earlier_;
    if (head.wanted.empty()) {
      progress_.advance(rows_);  // of which others than the first rank show nothing
    } else {
      heads_.push_back(std::move(head));
    }
  }

  [[nodiscard]] Json record_of(const HeadStudies& studies, const PlannedHead& head, const Wanted& wanted,
                               Metrics metrics) const {
    const Cell& cell = head.cells[wanted.cell];
    const auto [study, number] = studies.of(wanted.cell);
    const StudyExperiment& experiment = experiments_[wanted.experiment];
    const auto add = [&](const Metrics& more) { metrics.insert(metrics.end(), more.begin(), more.end()); };
    if (experiment.with_maps) add(head_character(*study, cell.region));
    if (experiment.with_choice) add(study->choice_metrics(number));
    Json record = make_record(experiment.name, head.input, wanted.config, metrics_json(metrics));
    if (experiment.with_maps) record["arrays"] = map_arrays(*study, cell, study->mask(number));
    if (experiment.with_masks) record["arrays"]["mask"] = mask_rows(study->mask(number));
    if (row_of(cell.policy).layout == BlockLayout::by_head) {
      record["notes"]["block_layout"] = to_string(studies.layout(wanted.cell));
    }
    if (cell.by_call) record["notes"]["heads_of_call"] = fmt::to_string(heads_of_a_call_);
    if (row_of(cell.policy).reads == Reads::earlier) record["notes"]["masks_from"] = head.earlier->name;
    if (cell.with_bounds && cell.policy != Policy::draft) {
      record["notes"]["theorem_3_5"] =
          "not applicable: the mask does not threshold the draft map; step 1 of the proof holds for every mask";
    }
    if (!all_checks_hold(metrics)) {
      record["status"] = "failed";
      record["reason"] = "a check_* flag is 0: a bound does not hold";
    }
    return record;
  }

  const Options& options_;
  const std::vector<StudyExperiment>& experiments_;
  Ranks& ranks_;
  int threads_;
  std::vector<HeadTask> tasks_;
  std::vector<std::unique_ptr<Sweeps>> sweeps_;
  std::optional<Element> half_;
  Index heads_of_a_call_;
  RecordLog log_;
  Index rows_;  // of progress, a head
  ProgressLine progress_;
  Collected collected_;
  std::string done_;       // of all cells, in the order in which they are planned: '1' or '0'
  std::size_t asked_ = 0;  // of them
  std::vector<PlannedHead> heads_;
  Index without_earlier_ = 0;  // heads that lack a step that a policy wants
  bool fine_ = true;
};

}  // namespace

std::vector<Cell> cells_of(const std::vector<Policy>& policies, const std::vector<RegionSize>& regions,
                           const std::vector<Pool>& pools, const std::vector<Rule>& rules,
                           const std::vector<double>& sparsities, bool with_bounds,
                           const std::vector<Remainder>& remainders) {
  std::vector<Cell> cells;
  for (const Policy policy : policies) {
    for (const RegionSize region : regions) {
      if (row_of(policy).layout != BlockLayout::region && region != regions.front()) continue;
      for (MaskChoice choice : mask_choices(policy, region, pools, rules, sparsities)) {
        for (const Remainder remainder : remainders) {
          choice.remainder = remainder;
          cells.push_back({choice, with_bounds});
        }
      }
    }
  }
  return cells;
}

std::vector<double> chosen_sparsities(const Options& options) {
  return chosen_or(options.sparsities, {0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95});
}

std::vector<Policy> chosen_policies(const Options& options) {
  if (options.policies.empty()) return {Policy::draft, Policy::oracle, Policy::random};
  return parsed_once(options.policies, parse_policy);
}

int run_experiments(const Options& options, const std::vector<StudyExperiment>& wanted) {
  require_device(wanted, options.device);
  const Dump dump = Dump::open(options.dump);
  if (options.device != "cpu") require_not_causal(dump.info(), "--device " + options.device);
  const std::vector<StudyExperiment> experiments =
      dump.info().grid.causal ? causal_experiments(wanted, options, ranks()) : wanted;
  StudyRun run(dump, options, experiments, ranks());
  run.share_budgets(dump);
  run.measure(dump);
  return run.show();
}

Action study_command(CLI::App& command, std::vector<Question> questions, const std::string& default_policies,
                     void (*more)(CLI::App& command, Options& options)) {
  const auto options = std::make_shared<Options>();
  add_options(
      command, *options,
      {.dump = true, .captures = true, .pool = true, .region = true, .rule = true, .sparsity = true, .compute = true});
  add_policy_option(command, options->policies,
                    fmt::format("Whose masks are measured (default {}; see list)", default_policies),
                    [](Policy policy) { return row_of(policy).takes_sparsity; });
  if (more != nullptr) more(command, *options);
  return [options, questions = std::move(questions)] {
    std::vector<StudyExperiment> experiments;
    for (const Question question : questions) experiments.push_back(question(*options));
    return run_experiments(*options, experiments);
  };
}

}  // namespace draft
