// The first sweep on the GPU: one partition after the other, then one histogram after the other.
#include <algorithm>
#include <cmath>

#include "experiments/study/gpu/sweeps.hpp"

namespace draft {
namespace {

/// An upper bound of the deviations as the kernel rounds them: a difference's rounding keeps its order.
float largest_deviation(const LogitStats& stats, const std::vector<float>& centres) {
  float largest = 0.0F;
  for (std::size_t block = 0; block < centres.size(); ++block) {
    largest = std::max({largest, std::abs(static_cast<float>(stats.maximum.data()[block]) - centres[block]),
                        std::abs(static_cast<float>(stats.minimum.data()[block]) - centres[block])});
  }
  return largest;
}

}  // namespace

LogitStats GpuSweeps::block_stats(std::size_t partition) {
  const gpu::SweepCall call = this->call(partition);
  const Index regions = call.layout.regions();
  const auto blocks = static_cast<std::size_t>(regions * regions), stride = blocks + blocks % 2;  // 16 bytes
  double* const found = statistics_.at_least(5 * stride + static_cast<std::size_t>(regions));
  double* const lse = lse_.at_least(static_cast<std::size_t>(call.layout.video()));
  const gpu::BlockStats stats{found, found + stride, found + 2 * stride, found + 3 * stride};
  const gpu::BlockMass mass{found + 4 * stride, found + 5 * stride, lse};
  gpu::sweep_logits(call, scratch_.at_least(gpu::logit_sweep_scratch(call.layout)), mass, stats, stream_.get());
  LogitStats out;
  const auto fetch = [&](Matrix& to, const double* from) {
    to.resize(regions, regions);
    to_host(to.data(), from, blocks);
  };
  fetch(out.minimum, stats.minimum);
  fetch(out.maximum, stats.maximum);
  fetch(out.mean, stats.mean);
  fetch(out.centred_square, stats.centred_square);
  fetch(out.mass, mass.mass);
  out.text_mass.resize(regions);
  to_host(out.text_mass.data(), mass.text_mass, static_cast<std::size_t>(regions));
  return out;
}

LogHistogram GpuSweeps::histogram(const MapRequest& request, const LogitStats& stats) {
  const std::vector<float> centres(request.logits->data(), request.logits->data() + request.logits->size());
  const float largest = largest_deviation(stats, centres);
  float* const pooled = pooled_.at_least(centres.size() + 4);  // the last ones: `largest`, aligned
  float* const bound = pooled + (centres.size() + 3) / 4 * 4;
  to_device(pooled, centres.data(), centres.size());
  to_device(bound, &largest, 1);
  std::vector<std::uint64_t> counts(gpu::kDeviationBins, 0);
  std::uint64_t* const device_counts = counts_.at_least(counts.size());
  to_device(device_counts, counts.data(), counts.size());
  gpu::sweep_deviations(call(request.partition), pooled, bound, device_counts, stream_.get());
  to_host(counts.data(), device_counts, counts.size());
  LogHistogram out;
  for (int bin = 0; bin < gpu::kDeviationBins; ++bin) {
    out.add(static_cast<double>(gpu::deviation_edge(largest, bin)), counts[static_cast<std::size_t>(bin)]);
  }
  return out;
}

LogitSweep GpuSweeps::logits(std::span<const MapRequest> requests, const Progress& progress) {
  Steps steps(progress, problem_->grid.video(), partitions_.size() + requests.size());
  LogitSweep sweep;
  for (std::size_t p = 0; p < partitions_.size(); ++p) {  // the last one's log-sum-exp stays for masks()
    sweep.stats.push_back(block_stats(p));
    steps.done();
  }
  for (const MapRequest& request : requests) {
    sweep.deviations.push_back(histogram(request, sweep.stats[request.partition]));
    steps.done();
  }
  return sweep;
}

}  // namespace draft
