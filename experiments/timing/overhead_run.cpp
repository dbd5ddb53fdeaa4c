#include "experiments/timing/overhead_run.hpp"

#include <algorithm>

#include "experiments/timing/latency.hpp"
#include "experiments/timing/overhead_table.hpp"

namespace draft {

OverheadRun::OverheadRun(const TimedOptions& options, const std::vector<gpu::AttentionKernel>& kernels)
    : options_(options), run_(options, "overhead", kernels) {}

const TimedRun& OverheadRun::run() {
  std::vector<double> sparsities = chosen_or(options_.sparsities, {0.6, 0.8, 0.9});
  std::erase(sparsities, 0.0);  // nothing is selected
  std::vector<gpu::AttentionKernel> kernels;
  for (const RegionSize region : chosen_or(options_.regions, {RegionSize{8, 16}})) {
    run_.call().set_region(region, true);
    if (kernels.size() != 1) kernels = fitting_kernels();
    const gpu::MaskPipeline pipeline(run_.call().layout());
    for (const gpu::AttentionKernel& kernel : kernels) {
      for (const Pool pool : chosen_or(options_.pools, {Pool::average})) {
        for (const Rule rule : chosen_or(options_.rules, {Rule::softmax})) {
          for (const double sparsity : sparsities) {
            time({kernel, {Policy::draft, pool, rule, region, sparsity}}, pipeline);
          }
        }
      }
    }
  }
  return run_;
}

/// Without --kernel: the first that does the call.
std::vector<gpu::AttentionKernel> OverheadRun::fitting_kernels() {
  const std::vector<gpu::AttentionKernel>& all = run_.kernels();
  if (!options_.kernels.empty() || all.size() < 2) return all;
  const auto fits = std::find_if(all.begin(), all.end(), [&](const gpu::AttentionKernel& kernel) {
    return run_.call().unsupported(kernel, false).empty();
  });
  return fits != all.end() ? std::vector{*fits} : all;
}

std::vector<OverheadRun::Part> OverheadRun::parts(const Group& group, const gpu::MaskPipeline& pipeline,
                                                  const DeviceLists& lists) {
  DeviceCall& call = run_.call();
  const gpu::MaskCall draft = call.draft(group.mask, lists);
  std::vector<Part> parts;
  for (const auto& step : pipeline.steps(draft)) parts.push_back({step.name, TokenOrder::token, step.enqueue, ""});
  parts.push_back(
      {"draft", TokenOrder::token, [&pipeline, draft](cudaStream_t stream) { pipeline.enqueue(draft, stream); }, ""});
  parts.push_back({"reorder", TokenOrder::gather, call.reorder(), ""});
  parts.push_back({"restore", TokenOrder::gather, call.restore(), ""});
  for (const auto& [name, order] :
       {std::pair{"attention", TokenOrder::token}, {"attention_gather", TokenOrder::gather}}) {
    const std::string why = call.unsupported(group.kernel, wants_region_order(order));
    parts.push_back({name, order, why.empty() ? call.attention(group.kernel, order, &lists) : DeviceCall::Work(), why});
  }
  return parts;
}

void OverheadRun::time(const Group& group, const gpu::MaskPipeline& pipeline) {
  const gpu::Layout& layout = run_.call().layout();
  const DeviceLists lists(layout);
  std::vector<Part> parts = this->parts(group, pipeline, lists);
  std::vector<Json> configs;
  Index done = 0;
  for (const Part& part : parts) {
    Json config{{"part", part.name}};
    config.update(call_config(group.kernel.name, run_.source().element(), part.order, group.mask, options_.seed));
    done += run_.holds(config) ? 1 : 0;
    configs.push_back(std::move(config));
  }
  if (done == static_cast<Index>(parts.size())) {  // else all of them again: shares are made of one run's times
    run_.skip(done);
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
  record(group, parts, configs, counts, run_.time(std::move(works)));
}

void OverheadRun::record(const Group& group, const std::vector<Part>& parts, const std::vector<Json>& configs,
                         const KeptCounts& counts, const std::vector<WorkTimes>& times) {
  const gpu::Layout& layout = run_.call().layout();
  // Parts and times beside each other: what a kernel cannot do has no times.
  std::vector<const WorkTimes*> of_part;
  for (std::size_t i = 0, next = 0; i < parts.size(); ++i)
    of_part.push_back(parts[i].why.empty() ? &times[next++] : nullptr);
  const auto attention =
      std::find_if(parts.begin(), parts.end(), [](const Part& part) { return part.name == std::string("attention"); });
  const WorkTimes* const whole = of_part[static_cast<std::size_t>(attention - parts.begin())];
  for (std::size_t i = 0; i < parts.size(); ++i) {
    Json record = run_.record(configs[i], metrics_of(counts));
    const WorkTimes* const own = of_part[i];
    if (own == nullptr) {
      if (!run_.holds(configs[i])) run_.append(skipped(std::move(record), parts[i].why));
      continue;
    }
    if (!own->error.empty()) {
      TimedRun::add_times(record, *own, std::nullopt);
      run_.append(std::move(record));
      continue;
    }
    const std::string name = parts[i].name;
    const double ms = own->median_ms();
    record["metrics"]["matmul_tflops"] = run_.matmul_tflops();
    if (whole != nullptr && whole->error.empty()) record["metrics"]["share_of_attention"] = ms / whole->median_ms();
    const double bytes = part_bytes(name, counts, layout.tokens(), layout.video(), layout.head_dim);
    if (bytes > 0) {
      record["metrics"]["bytes"] = bytes;
      record["metrics"]["gb_per_s"] = bytes / ms * 1e-6;
    }
    const auto flops = kept_flops(counts, group.mask.region, layout.head_dim);
    TimedRun::add_times(record, *own, name.starts_with("attention") ? std::optional(flops) : std::nullopt);
    run_.append(std::move(record));
  }
}

int overhead(const TimedOptions& options, const std::vector<gpu::AttentionKernel>& kernels) {
  OverheadRun parts(options, kernels);
  const TimedRun& run = parts.run();
  if (!options.quiet) print_overhead(run.records(), run.done_before());
  return run.status();
}

int overhead(const TimedOptions& options) { return overhead(options, gpu::attention_kernels()); }

}  // namespace draft
