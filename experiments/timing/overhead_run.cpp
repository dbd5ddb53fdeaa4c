#include "experiments/timing/overhead_run.hpp"

#include <algorithm>

#include "experiments/input/kernels.hpp"
#include "experiments/timing/latency.hpp"
#include "experiments/timing/overhead_table.hpp"
#include "harness/progress.hpp"

namespace draft {

OverheadRun::OverheadRun(const TimedOptions& options, const std::vector<gpu::AttentionKernel>& kernels)
    : options_(options),
      kernels_(chosen_or_fused_kernels(options.kernels, kernels)),
      source_(CallSource::open(options)),
      log_(options.out) {}

const std::vector<Json>& OverheadRun::run() {
  call_ = std::make_unique<GpuCall>(source_, true);
  std::vector<double> sparsities = chosen_or(options_.sparsities, {0.6, 0.8, 0.9});
  std::erase(sparsities, 0.0);  // nothing is selected
  for (const RegionSize region : chosen_or(options_.regions, {RegionSize{8, 16}})) {
    call_->set_region(region);
    choose_kernel();
    const gpu::MaskPipeline pipeline(call_->layout());
    for (const gpu::AttentionKernel& kernel : kernels_) {
      for (const Pool pool : chosen_or(options_.pools, {Pool::average})) {
        for (const Rule rule : chosen_or(options_.rules, {Rule::softmax})) {
          for (const double sparsity : sparsities) time({kernel, region, pool, rule, sparsity}, pipeline);
        }
      }
    }
  }
  return records_;
}

/// Without --kernel: the first that does the call.
void OverheadRun::choose_kernel() {
  if (!options_.kernels.empty() || kernels_.size() < 2) return;
  const auto fits = std::find_if(kernels_.begin(), kernels_.end(), [&](const gpu::AttentionKernel& kernel) {
    return call_->unsupported(kernel, TokenOrder::token).empty();
  });
  if (fits != kernels_.end()) kernels_ = {*fits};
}

std::vector<OverheadRun::Part> OverheadRun::parts(const Group& group, const gpu::MaskPipeline& pipeline,
                                                  const DeviceLists& lists) {
  const gpu::MaskCall draft = call_->draft(group.pool, group.rule, group.sparsity, lists);
  std::vector<Part> parts;
  for (const auto& step : pipeline.steps(draft)) parts.push_back({step.name, TokenOrder::token, step.enqueue, ""});
  parts.push_back(
      {"draft", TokenOrder::token, [&pipeline, draft](cudaStream_t stream) { pipeline.enqueue(draft, stream); }, ""});
  parts.push_back({"reorder", TokenOrder::gather, call_->reorder(), ""});
  parts.push_back({"restore", TokenOrder::gather, call_->restore(), ""});
  for (const auto& [name, order] :
       {std::pair{"attention", TokenOrder::token}, {"attention_gather", TokenOrder::gather}}) {
    const std::string why = call_->unsupported(group.kernel, order);
    parts.push_back({name, order, why.empty() ? call_->attention(group.kernel, order, &lists) : GpuCall::Work(), why});
  }
  return parts;
}

void OverheadRun::time(const Group& group, const gpu::MaskPipeline& pipeline) {
  const gpu::Layout& layout = call_->layout();
  const DeviceLists lists(layout);
  std::vector<Part> parts = this->parts(group, pipeline, lists);
  const MaskChoice mask{Policy::draft, group.pool, group.rule, group.region, group.sparsity};
  std::vector<Json> configs;
  Index done = 0;
  for (const Part& part : parts) {
    Json config{{"part", part.name}};
    config.update(call_config(group.kernel.name, source_.element(), part.order, mask, options_.seed));
    done += log_.contains({{"experiment", "overhead"}, {"input", source_.input()}, {"config", config}}) ? 1 : 0;
    configs.push_back(std::move(config));
  }
  if (done == static_cast<Index>(parts.size())) {  // else all of them again: shares are made of one run's times
    done_before_ += done;
    return;
  }
  const gpu::Stream stream;
  for (const Part& part : parts) {
    if (part.name == std::string("draft")) part.work(stream.get());
  }
  pipeline.require_fine();
  const KeptCounts counts = kept_counts(lists.counts(), layout.heads, layout.regions(), layout.text_blocks());

  std::vector<TimedWork> works;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].why.empty()) works.push_back({configs[i].dump(), parts[i].work});
  }
  const bool first = matmul_ == nullptr;
  if (first) {
    matmul_ = std::make_unique<MatmulMark>();
    works.push_back(matmul_->work());
  }
  ProgressLine progress("timing", static_cast<Index>(works.size()) * options_.samples, options_.quiet);
  std::vector<WorkTimes> times =
      time_on_gpu(works, {options_.samples, options_.warmup}, [&progress] { progress.advance(); });
  if (first) {
    if (!times.back().error.empty()) throw gpu::Error("matrix product: " + times.back().error);
    matmul_tflops_ = MatmulMark::tflops(times.back().median_ms());
    times.pop_back();
  }
  record(group, parts, configs, counts, times);
}

void OverheadRun::record(const Group& group, const std::vector<Part>& parts, const std::vector<Json>& configs,
                         const KeptCounts& counts, const std::vector<WorkTimes>& times) {
  const gpu::Layout& layout = call_->layout();
  // Parts and times beside each other: what a kernel cannot do has no times.
  std::vector<const WorkTimes*> of_part;
  for (std::size_t i = 0, next = 0; i < parts.size(); ++i)
    of_part.push_back(parts[i].why.empty() ? &times[next++] : nullptr);
  const auto attention =
      std::find_if(parts.begin(), parts.end(), [](const Part& part) { return part.name == std::string("attention"); });
  const WorkTimes* const whole = of_part[static_cast<std::size_t>(attention - parts.begin())];
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Json record = make_record("overhead", source_.input(), configs[i], metrics_of(counts));
    const WorkTimes* const own = of_part[i];
    if (own == nullptr) {
      if (!log_.contains(record)) append(skipped(std::move(record), parts[i].why));
      continue;
    }
    if (!own->error.empty()) {
      record["status"] = "failed";
      record["reason"] = own->error;
      append(std::move(record));
      continue;
    }
    const std::string name = parts[i].name;
    const double ms = own->median_ms();
    record["metrics"]["matmul_tflops"] = matmul_tflops_;
    if (whole != nullptr && whole->error.empty()) record["metrics"]["share_of_attention"] = ms / whole->median_ms();
    const double bytes = part_bytes(name, counts, layout.tokens(), layout.video(), layout.head_dim);
    if (bytes > 0) {
      record["metrics"]["bytes"] = bytes;
      record["metrics"]["gb_per_s"] = bytes / ms * 1e-6;
    }
    const bool counts_flops = name.starts_with("attention");
    record["timing"] =
        timing_of(*own, counts_flops ? std::optional(kept_flops(counts, group.region, layout.head_dim)) : std::nullopt);
    add_gpu_state(*own, record["machine"]);
    append(std::move(record));
  }
}

void OverheadRun::append(Json record) {
  records_.push_back(record);
  if (!log_.append(std::move(record))) records_.back()["status"] = "failed";
}

int overhead(const TimedOptions& options, const std::vector<gpu::AttentionKernel>& kernels) {
  OverheadRun run(options, kernels);
  const std::vector<Json>& records = run.run();
  if (!options.quiet) print_overhead(records, run.done_before());
  const bool fine =
      std::none_of(records.begin(), records.end(), [](const Json& one) { return one["status"] == "failed"; });
  return fine ? kExitFine : kExitCheckFailed;
}

int overhead(const TimedOptions& options) { return overhead(options, gpu::attention_kernels()); }

}  // namespace draft
