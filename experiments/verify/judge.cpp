#include "experiments/verify/judge.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>

#include "experiments/input/kernels.hpp"
#include "experiments/tools/compare.hpp"
#include "experiments/verify/table.hpp"
#include "harness/progress.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

constexpr std::size_t kGroup = 8;  // heads that are on the GPU, and whose outputs are kept, at a time

Element element_for(const VerifyOptions& options, const DumpInfo& info) {
  const std::string name = options.element.empty() ? info.element : options.element;
  const auto element = parse_element(name);
  if (element == Element::float16 || element == Element::bfloat16) return *element;
  return Element::bfloat16;
}

/// Keeps the judged rows of a run.
void keep_judged(const GroupMasks& masks, const JudgedCase& judged, const KernelRun& run, JudgedRun& kept) {
  const gpu::Layout& layout = masks.layout;
  const auto dim = static_cast<std::size_t>(layout.head_dim);
  for (std::size_t head = 0; head < judged.masks.size(); ++head) {
    auto& o = kept.o.emplace_back();
    auto& lse = kept.lse.emplace_back();
    for (const Index block : judged.blocks[head]) {
      for (const Index token : masks.tokens(block)) {
        const int place = kept.region_order ? layout.position_of(static_cast<int>(token)) : static_cast<int>(token);
        const auto first = run.o.begin() + layout.offset(static_cast<int>(head), place);
        o.insert(o.end(), first, first + static_cast<std::ptrdiff_t>(dim));
        lse.push_back(run.lse[head * static_cast<std::size_t>(layout.tokens()) + static_cast<std::size_t>(place)]);
      }
    }
  }
}

/// Why a run's record is a failure, or "".
std::string failure(const JudgedRun& run, const KernelError& error) {
  if (run.guard_bytes > 0)
    return fmt::format("{} bytes beside the outputs or the scratch were written to", run.guard_bytes);
  if (run.unwritten > 0) return fmt::format("{} output numbers are NaN or were not written", run.unwritten);
  if (!run.repeats) return "a second run on the same input gave other bits";
  if (!error.fine()) {
    return fmt::format(
        "wanted at most 1 of what rounding explains, found {:.3g} (element), {:.3g} (row), {:.3g} (lse), "
        "{:.3g} (all rows); worst block row {}",
        error.element_over_bound, error.row_over_tolerance, error.lse_over_bound, error.total_over_expected(),
        error.worst_block);
  }
  return "";
}

}  // namespace

Verification::Verification(const VerifyOptions& options, const std::vector<gpu::AttentionKernel>& kernels, Ranks& ranks)
    : options_(options),
      ranks_(ranks),
      dump_(Dump::open(options.dump)),
      kernels_(chosen_kernels(options.kernels, kernels)),
      cases_(verify_cases(options)),
      element_(element_for(options, dump_.info())),
      sha256_(digest_on_all(ranks, options.dump)),
      log_(ranks.is_first() ? open_log(options) : RecordLog()) {
  require_not_causal(dump_.info(), "a kernel of verify");
}

std::vector<Json> Verification::run() {
  const std::vector<HeadTask> tasks = chosen_heads(dump_.info(), options_);
  std::vector<std::vector<HeadTask>> groups;
  for (const HeadTask& task : tasks) {
    if (groups.empty() || groups.back().size() == kGroup || groups.back()[0].capture != task.capture)
      groups.push_back({});
    groups.back().push_back(task);
  }
  std::vector<double> costs;
  for (const auto& heads : groups) costs.push_back(static_cast<double>(heads.size()));
  ProgressLine progress("verifying heads", static_cast<Index>(tasks.size() * cases_.size()),
                        options_.quiet || !ranks_.is_first());
  std::vector<std::vector<Json>> records(groups.size());
  const auto write = [&](std::size_t i, const std::vector<Json>& found) {
    for (const Json& record : found) {
      records[i].push_back(record);
      if (!log_.append(record)) records[i].back()["status"] = "failed";
    }
  };
  SharedWork units(ranks_, {costs, write, [&](Index steps) { progress.advance(steps); }});
  while (const auto i = units.take()) group(*i, groups[*i], units);
  units.finish();
  std::vector<Json> all;
  for (std::vector<Json>& found : records) std::ranges::move(found, std::back_inserter(all));
  return all;
}

Problem Verification::rounded_head(const HeadTask& task) const {
  Problem problem = dump_.problem_of(*task.capture, task.head, dump_.load_half(*task.capture, task.head, element_));
  problem.scale = static_cast<double>(static_cast<float>(problem.scale));  // as the kernels get it
  return problem;
}

void Verification::group(std::size_t unit, const std::vector<HeadTask>& tasks, SharedWork& units) {
  std::vector<JudgedCase> judged;
  std::vector<JudgedRun> runs;
  run_kernels(tasks, judged, runs);
  for (std::size_t head = 0; head < tasks.size(); ++head) {
    std::vector<Json> records;
    judge_head(tasks[head], head, judged, runs, records);
    units.advance(static_cast<Index>(cases_.size()));
    units.deliver_part(unit, std::move(records));
  }
  units.deliver(unit, {});
}

void Verification::run_kernels(const std::vector<HeadTask>& tasks, std::vector<JudgedCase>& judged,
                               std::vector<JudgedRun>& runs) {
  const DumpInfo& info = dump_.info();
  DeviceCall call({static_cast<Index>(tasks.size()), info.grid, info.head_dim}, element_,
                  tasks[0].capture->softmax_scale);
  for (std::size_t head = 0; head < tasks.size(); ++head) {
    const HalfHead half = dump_.load_half(*tasks[head].capture, tasks[head].head, element_);
    call.upload(static_cast<Index>(head), half.q, half.k, half.v);
  }
  for (std::size_t c = 0; c < cases_.size(); ++c) {
    const GroupMasks masks = group_masks(call, cases_[c], options_.seed);
    JudgedCase& own = judged.emplace_back(JudgedCase{masks.masks, {}, masks.pooled});
    for (const auto& counts : masks.row_counts) {
      own.blocks.push_back(judged_blocks(counts, masks.layout.regions(), options_.blocks));
    }
    for (const gpu::AttentionKernel& kernel : kernels_) {
      for (const bool region_order : {false, true}) {
        const KernelRun run = guarded_run(call, kernel, masks, region_order);
        JudgedRun& kept = runs.emplace_back(JudgedRun{c,
                                                      kernel.name,
                                                      kernel.eight_bit() ? Arithmetic::eight_bit : Arithmetic::element,
                                                      region_order,
                                                      run.unsupported,
                                                      run.guard_bytes,
                                                      run.unwritten,
                                                      run.repeats,
                                                      {},
                                                      {}});
        if (run.unsupported.empty()) keep_judged(masks, own, run, kept);
      }
    }
  }
}

void Verification::judge_head(const HeadTask& task, std::size_t head, const std::vector<JudgedCase>& judged,
                              const std::vector<JudgedRun>& runs, std::vector<Json>& records) {
  const Problem problem = rounded_head(task);
  const KernelFormat format = element_ == Element::bfloat16 ? kBfloat16Format : kFloat16Format;
  // A kernel's truth is the same whatever it multiplies; what it may be off by is not.
  for (const Arithmetic arithmetic : {Arithmetic::element, Arithmetic::eight_bit}) {
    const auto is_judged = [&](const JudgedRun& run) {
      return run.arithmetic == arithmetic && run.unsupported.empty();
    };
    if (std::none_of(runs.begin(), runs.end(), is_judged)) continue;
    std::unique_ptr<KernelTruth> truth;
    RegionSize prepared{0, 0};
    for (std::size_t c = 0; c < cases_.size(); ++c) {
      const auto of_case = [&](const JudgedRun& run) { return run.the_case == c && is_judged(run); };
      if (std::none_of(runs.begin(), runs.end(), of_case)) continue;
      if (prepared != cases_[c].region) {
        truth = std::make_unique<KernelTruth>(problem, cases_[c].region, format, arithmetic);
        prepared = cases_[c].region;
      }
      const std::vector<Index>& blocks = judged[c].blocks[head];
      const PooledRows* remainder = judged[c].pooled.empty() ? nullptr : &judged[c].pooled[head];
      std::vector<RowsTruth> rows(blocks.size());
      parallel_for(static_cast<Index>(blocks.size()), ranks_.threads(options_.threads), [&] {
        return [&](Index i) {
          rows[static_cast<std::size_t>(i)] =
              truth->rows(judged[c].masks[head], blocks[static_cast<std::size_t>(i)], remainder);
        };
      });
      for (const JudgedRun& run : runs) {
        if (of_case(run)) records.push_back(record(task, run, judged[c].masks[head], blocks, rows, head));
      }
    }
  }
  for (std::size_t c = 0; c < cases_.size(); ++c) {
    for (const JudgedRun& run : runs) {
      if (run.the_case == c && !run.unsupported.empty()) {
        records.push_back(record(task, run, judged[c].masks[head], judged[c].blocks[head], {}, head));
      }
    }
  }
}

Json Verification::record(const HeadTask& task, const JudgedRun& run, const BlockMask& mask,
                          const std::vector<Index>& blocks, const std::vector<RowsTruth>& rows,
                          std::size_t head) const {
  Json config = case_config(cases_[run.the_case]);
  config["element"] = to_string(element_);
  config["order"] = run.region_order ? "region" : "token";
  config["device"] = "cuda";
  config["kernel"] = run.kernel;
  add_seed(config, cases_[run.the_case].policy, options_.seed);
  Json record = make_record("verify", input_of(dump_.info(), sha256_, task), std::move(config), Json::object());
  if (run.unsupported.empty()) {
    const KernelError error = judge(run, head, blocks, rows);
    const auto if_any = [](const std::optional<double>& value) {
      return to_json(value ? MetricValue(*value) : MetricValue::not_applicable());
    };
    record["metrics"] = {{"kernel_rel_l2", if_any(error.rel_l2())},
                         {"kernel_max_abs", error.max_abs},
                         {"kernel_worst_block_rel_l2", if_any(error.worst_block_rel_l2)},
                         {"kernel_worst_block", error.worst_block < 0 ? Json(kNotApplicable) : Json(error.worst_block)},
                         {"kernel_element_over_tolerance", error.element_over_bound},
                         {"kernel_row_over_tolerance", error.row_over_tolerance},
                         {"kernel_lse_max_abs", error.lse_max_abs},
                         {"kernel_lse_over_tolerance", error.lse_over_bound},
                         {"rows_judged", error.rows},
                         {"blocks_judged", blocks.size()},
                         {"kept_blocks", mask.kept_blocks()},
                         {"total_blocks", mask.regions() * mask.regions()},
                         {"empty_rows", mask.empty_rows()}};
    record["arrays"] = {{"blocks_judged", blocks}};
    const std::string reason = failure(run, error);
    if (!reason.empty()) {
      record["status"] = "failed";
      record["reason"] = reason;
    }
  } else {
    record = skipped(std::move(record), run.unsupported);
  }
  return record;
}

KernelError Verification::judge(const JudgedRun& run, std::size_t head, const std::vector<Index>& blocks,
                                const std::vector<RowsTruth>& rows) const {
  KernelError error;
  std::size_t at = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    Matrix o(rows[i].o.rows(), rows[i].o.cols());
    Vector lse(o.rows());
    for (Index r = 0; r < o.rows(); ++r) {
      lse[r] = static_cast<double>(run.lse[head][at / static_cast<std::size_t>(o.cols())]);
      for (Index d = 0; d < o.cols(); ++d) o(r, d) = from_bits(run.o[head][at++], element_);
    }
    error.add(rows[i], blocks[i], o, lse);
  }
  return error;
}

int verify(const VerifyOptions& options, const std::vector<gpu::AttentionKernel>& kernels) {
  std::vector<Json> before;
  if (!options.baseline.empty()) before = read_records(options.baseline);
  Verification verification(options, kernels, ranks());
  const std::vector<Json> records = verification.run();
  if (!ranks().is_first()) return kExitFine;  // the first rank's status is the run's
  if (!options.quiet) print_verification(records);
  bool fine =
      std::none_of(records.begin(), records.end(), [](const Json& record) { return record["status"] == "failed"; });
  if (!options.baseline.empty()) {
    const Comparison comparison = compare(before, records, options.compare);
    if (comparison.measured == 0) {
      throw UsageError(fmt::format("--baseline: {} has no cell of this run that could be compared", options.baseline));
    }
    if (!options.quiet) print_comparison(comparison, 40);
    fine = fine && !comparison.fails(options.compare.strict);
  }
  return fine ? kExitFine : kExitCheckFailed;
}

int verify(const VerifyOptions& options) { return verify(options, gpu::attention_kernels()); }

}  // namespace draft
