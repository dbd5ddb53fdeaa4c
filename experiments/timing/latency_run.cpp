#include "experiments/timing/latency_run.hpp"

#include <algorithm>

#include "experiments/timing/latency_table.hpp"
#include "experiments/timing/projection.hpp"

namespace draft {

LatencyRun::LatencyRun(const LatencyOptions& options, const std::vector<gpu::AttentionKernel>& kernels)
    : options_(options),
      orders_(parsed_once(options.orders, parse_token_order)),
      run_(options, options.experiment(), kernels) {}

const TimedRun& LatencyRun::run() {
  for (const RegionSize size : chosen_or(options_.regions, {RegionSize{8, 16}})) region(size);
  return run_;
}

void LatencyRun::region(RegionSize region) {
  run_.call().set_region(region, std::any_of(orders_.begin(), orders_.end(), wants_region_order));
  std::vector<Mask> masks;
  for (const MaskChoice& one : latency_masks(options_, region)) masks.emplace_back().choice = one;
  std::vector<Cell> cells = plan(region, masks);
  if (cells.empty()) return;
  const gpu::MaskPipeline pipeline(run_.call().layout());
  make_masks(masks, pipeline);
  const std::vector<WorkTimes> times = time(cells, masks, pipeline);
  record(region, cells, masks, times);
}

/// Appends a record for what a kernel does not support.
std::vector<LatencyRun::Cell> LatencyRun::plan(RegionSize region, std::vector<Mask>& masks) {
  std::vector<Cell> cells;
  for (const gpu::AttentionKernel& kernel : run_.kernels()) {
    for (const TokenOrder order : orders_) {
      const std::size_t dense = cells.size();
      const auto add = [&](std::size_t mask) {
        const Remainder remainder = mask == kDense ? Remainder::none : masks[mask].choice.remainder;
        const std::string why = run_.call().unsupported(kernel, wants_region_order(order), remainder);
        const MaskChoice all{.policy = Policy::dense, .region = region};
        Json config = call_config(kernel.name, run_.source().element(), order,
                                  mask == kDense ? all : masks[mask].choice, options_.seed);
        if (options_.sustain_ms > 0.0) config["sustain_ms"] = options_.sustain_ms;
        const bool done = run_.holds(config);
        if (done && mask != kDense) {
          run_.skip(1);
          return false;
        }
        if (!why.empty()) {
          if (!done) run_.append(skipped(run_.record(std::move(config)), why));
          return false;
        }
        cells.push_back({&kernel, order, mask, std::move(config), dense, {}, 0});
        if (remainder != Remainder::none) cells.back().plain = plain_cell(cells, masks);
        return !done;
      };
      // Ratios are made of one run's times: the dense call is timed again if anything is compared with it.
      bool wanted = add(kDense);
      for (std::size_t mask = 0; mask < masks.size(); ++mask) {
        if (!add(mask)) continue;
        masks[mask].wanted = wanted = true;
      }
      if (!wanted && cells.size() > dense) {
        cells.resize(dense);
        run_.skip(1);
      }
    }
  }
  return cells;
}

/// The place of the last cell's twin without a remainder, if there is one.
std::optional<std::size_t> LatencyRun::plain_cell(const std::vector<Cell>& cells, const std::vector<Mask>& masks) {
  const Cell& own = cells.back();
  MaskChoice wanted = masks[own.mask].choice;
  wanted.remainder = Remainder::none;
  for (std::size_t i = own.dense; i < cells.size(); ++i) {
    if (cells[i].mask != kDense && masks[cells[i].mask].choice == wanted) return i;
  }
  return std::nullopt;
}

void LatencyRun::make_masks(std::vector<Mask>& masks, const gpu::MaskPipeline& pipeline) {
  const gpu::Layout& layout = run_.call().layout();
  for (Mask& mask : masks) {
    if (!mask.wanted) continue;
    const MaskChoice& one = mask.choice;
    if (one.policy == Policy::draft) {
      mask.lists = std::make_unique<DeviceLists>(layout);
      const gpu::Stream stream;
      pipeline.enqueue(run_.call().draft(one, *mask.lists), stream.get());
      pipeline.require_fine();
    } else {
      const auto host = policy_masks(one.policy, layout.heads, layout.regions(), one.sparsity, options_.seed);
      mask.lists = std::make_unique<DeviceLists>(layout, lists_of(host, layout.text_blocks()));
    }
    mask.counts = kept_counts(mask.lists->counts(), layout.heads, layout.regions(), layout.text_blocks());
  }
}

std::vector<WorkTimes> LatencyRun::time(std::vector<Cell>& cells, std::vector<Mask>& masks,
                                        const gpu::MaskPipeline& pipeline) {
  std::vector<TimedWork> works;
  std::optional<std::size_t> pool_work;
  for (Mask& mask : masks) {
    if (!mask.wanted || mask.choice.remainder == Remainder::none) continue;
    if (!pool_work) {
      pool_work = works.size();
      works.push_back({"pooled rows", run_.call().pool_rows()});
    }
    mask.pool_work = pool_work;
  }
  for (Mask& mask : masks) {
    const MaskChoice& one = mask.choice;
    if (!mask.wanted || one.policy != Policy::draft) continue;
    mask.draft_work = works.size();
    const gpu::MaskCall draft = run_.call().draft(one, *mask.lists);
    works.push_back({"draft", [&pipeline, draft](cudaStream_t stream) { pipeline.enqueue(draft, stream); }});
  }
  for (Cell& cell : cells) {
    cell.work = works.size();
    const DeviceLists* lists = cell.mask == kDense ? nullptr : masks[cell.mask].lists.get();
    const Remainder remainder = cell.mask == kDense ? Remainder::none : masks[cell.mask].choice.remainder;
    works.push_back({cell.config.dump(), run_.call().attention(*cell.kernel, cell.order, lists, remainder)});
  }
  return run_.time(std::move(works), options_.sustain_ms);
}

void LatencyRun::record(RegionSize region, const std::vector<Cell>& cells, const std::vector<Mask>& masks,
                        const std::vector<WorkTimes>& times) {
  const gpu::Layout& layout = run_.call().layout();
  for (const Cell& cell : cells) {
    const KeptCounts counts = cell.mask == kDense ? dense_counts(layout.heads, layout.regions(), layout.text_blocks())
                                                  : masks[cell.mask].counts;
    const WorkTimes& own = times[cell.work];
    Json record = run_.record(cell.config, metrics_of(counts));
    if (own.error.empty()) record["metrics"].update(compared(cell, counts, region, cells, masks, times));
    TimedRun::add_times(record, own, kept_flops(counts, region, layout.head_dim));
    run_.append(std::move(record));
  }
}

/// Metrics that need the times of others of this run.
Json LatencyRun::compared(const Cell& cell, const KeptCounts& counts, RegionSize region, const std::vector<Cell>& cells,
                          const std::vector<Mask>& masks, const std::vector<WorkTimes>& times) const {
  const Index head_dim = run_.source().shape().head_dim;
  const double own_ms = times[cell.work].median_ms();
  const double rate = kept_flops(counts, region, head_dim) / own_ms;
  Json metrics{{"matmul_tflops", run_.matmul_tflops()}, {"share_of_matmul", rate * 1e-9 / run_.matmul_tflops()}};
  const WorkTimes& dense = times[cells[cell.dense].work];
  if (dense.error.empty()) {
    const KeptCounts all = dense_counts(counts.heads, counts.regions, counts.text_blocks);
    metrics["speedup_over_dense"] = dense.median_ms() / own_ms;
    metrics["rate_over_dense"] = rate / (kept_flops(all, region, head_dim) / dense.median_ms());
  }
  if (cell.mask != kDense && masks[cell.mask].pool_work && times[*masks[cell.mask].pool_work].error.empty()) {
    const double pool_ms = times[*masks[cell.mask].pool_work].median_ms();
    metrics["pooled_rows_ms"] = pool_ms;
    if (cell.plain && times[cells[*cell.plain].work].error.empty()) {
      const double plain_ms = times[cells[*cell.plain].work].median_ms();
      metrics["time_over_plain"] = own_ms / plain_ms;
      metrics["time_with_pooling_over_plain"] = (own_ms + pool_ms) / plain_ms;
    }
  }
  if (cell.mask == kDense || !masks[cell.mask].draft_work || !times[*masks[cell.mask].draft_work].error.empty()) {
    return metrics;
  }
  const double draft_ms = times[*masks[cell.mask].draft_work].median_ms();
  metrics["draft_ms"] = draft_ms;
  const auto model = paper_model(to_string(run_.source().shape()));
  if (model && dense.error.empty()) {
    const Projection video = project(*model, run_.matmul_tflops(), dense.median_ms(), own_ms, draft_ms);
    metrics["projected_dense_s"] = video.dense_s;
    metrics["projected_sparse_s"] = video.sparse_s;
    metrics["projected_speedup"] = video.speedup();
    metrics["projected_other_s"] = video.other_s;
    metrics["projected_calls"] = video.calls;
    metrics["projected_sparse_share"] = video.sparse_share;
  }
  return metrics;
}

int latency(const LatencyOptions& options, const std::vector<gpu::AttentionKernel>& kernels) {
  LatencyRun cells(options, kernels);
  const TimedRun& run = cells.run();
  if (!options.quiet) print_latency(run.records(), run.done_before());
  return run.status();
}

int latency(const LatencyOptions& options) { return latency(options, gpu::attention_kernels()); }

}  // namespace draft
