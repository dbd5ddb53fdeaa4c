#include "experiments/study/gpu/sweeps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "experiments/device/lists.hpp"
#include "harness/gpu.hpp"
#include "harness/options.hpp"

namespace draft {
namespace {

/// Of a scaled logit, at the worst: where all of fp32's roundings add up, weights are known to a factor e^4.
constexpr double kMostRounding = 4.0;
/// fp32 has it, and so it has its product with log2 e. Above it all logits that load() takes are 0.
constexpr double kMostScale = 0x1p120;

/// The kernels cut every so many rows and columns.
void require_regular(const Partition& partition) {
  for (const auto* starts : {&partition.row_starts(), &partition.column_starts()}) {
    for (std::size_t i = 1; i < starts->size(); ++i) {
      if ((*starts)[i] == (*starts)[1] * static_cast<Index>(i)) continue;
      throw std::invalid_argument(
          fmt::format("GPU sweeps: wanted regions of one size, found one that starts at {} "
                      "where {} was due",
                      (*starts)[i], (*starts)[1] * static_cast<Index>(i)));
    }
  }
}

RegionSize region_of(const Partition& partition) {
  const auto extent = [](const std::vector<Index>& starts, Index whole) {
    return starts.size() > 1 ? starts[1] : whole;
  };
  return {extent(partition.row_starts(), partition.grid().height),
          extent(partition.column_starts(), partition.grid().width)};
}

}  // namespace

void GpuSweeps::load(const Problem& problem, const HalfHead* half, std::span<const Partition> partitions, int threads) {
  use_gpu_in_thread();
  if (problem.head_dim() != 64 && problem.head_dim() != 128) {
    throw UsageError(fmt::format("{}: --device cuda wants head_dim 64 or 128, found {}; use --device cpu",
                                 problem.source, problem.head_dim()));
  }
  const double rounding = problem.scale * single_precision_slack(problem).logit;
  if (rounding > kMostRounding) {
    throw UsageError(fmt::format(
        "{}: --device cuda wants scaled logits whose rounding in fp32 stays below {}, found {:.3g} "
        "(softmax_scale x longest row of q x longest row of k = {:.3g}); use --device cpu",
        problem.source, kMostRounding, rounding, problem.scale * longest_row(problem.q) * longest_row(problem.k)));
  }
  problem_ = &problem;
  partitions_ = partitions;
  threads_ = threads;
  layouts_.clear();
  row_masses_.clear();
  dense_rows_.resize(0, 0);
  for (const Partition& partition : partitions) {
    require_regular(partition);
    layouts_.push_back(layout_of(problem.grid, 1, problem.head_dim(), region_of(partition)));
    try {
      gpu::require_valid(layouts_.back());
    } catch (const std::invalid_argument& error) {
      throw UsageError(fmt::format("{}: --device cuda: {}; use --device cpu", problem.source, error.what()));
    }
  }
  if (half == nullptr) {
    throw UsageError(fmt::format(
        "{}: --device cuda wants q, k and v in bfloat16 or float16, found others; use --device cpu", problem.source));
  }
  element_ = half->element;
  const auto upload = [this](KeptBuffer<std::uint16_t>& buffer, const std::vector<std::uint16_t>& bits) {
    to_device(buffer.at_least(bits.size()), bits.data(), bits.size());
  };
  upload(q_, half->q);
  upload(k_, half->k);
  upload(v_, half->v);
}

gpu::SweepCall GpuSweeps::call(std::size_t partition) const {
  return {.layout = layouts_[partition],
          .element = element_,
          .scale = std::min(problem_->scale, kMostScale),
          .q = q_.data(),
          .k = k_.data(),
          .v = v_.data()};
}

std::unique_ptr<Sweeps> make_gpu_sweeps() { return std::make_unique<GpuSweeps>(); }

}  // namespace draft
