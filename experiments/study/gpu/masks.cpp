// The second sweep on the GPU: dense output, then one family after the other (remainder.cpp adds what they have for
// dropped blocks), then step 1 element by element.
#include <algorithm>
#include <cmath>

#include "experiments/study/gpu/sweeps.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

constexpr int kCheckedRowsAtOnce = 64;

}  // namespace

std::vector<std::vector<Level>> GpuSweeps::levels_of(std::span<const MaskFamily> families) {
  std::vector<std::vector<Level>> levels(families.size());
  parallel_for(static_cast<Index>(families.size()), threads_, [&] {
    return [&](Index f) { levels[static_cast<std::size_t>(f)] = Levels(families[static_cast<std::size_t>(f)]).level; };
  });
  return levels;
}

DenseSums GpuSweeps::dense() {
  const gpu::SweepCall call = this->call(0);
  float* const dense = dense_.at_least(static_cast<std::size_t>(problem_->grid.video()) *
                                       static_cast<std::size_t>(problem_->head_dim()));
  double* const sums = row_l1_.at_least(4);
  gpu::dense_output(call, dense, stream_.get());
  gpu::sum_outputs(call.layout, dense, scratch_.at_least(gpu::output_sums_scratch(call.layout)), sums, stream_.get());
  double found[4];
  to_host(found, sums, 4);
  return {std::sqrt(found[0]), found[1], found[2], found[3]};
}

std::vector<MaskEffect> GpuSweeps::effects(const gpu::SweepCall& call, const gpu::NestedMasks& family,
                                           const MaskFamily& own) {
  const auto masks = static_cast<std::size_t>(family.masks), video = static_cast<std::size_t>(call.layout.video());
  const std::size_t stride = masks * video + masks * video % 2;
  double* const found = effects_.at_least(6 * stride + 3 * masks);
  gpu::MaskEffects out{found, found + stride, found + 2 * stride, found + 3 * stride, found + 6 * stride};
  if (own.remainder != nullptr) {
    out.sharpness = found + 4 * stride;
    out.dropped_square = found + 5 * stride;
    out.output = outputs_.at_least(masks * video * static_cast<std::size_t>(call.layout.head_dim));
  }
  void* const scratch = scratch_.at_least(gpu::mask_sweep_scratch(call.layout, family.masks));
  gpu::sweep_masks(call, lse_.data(), dense_.data(), family, scratch, out, stream_.get());
  std::vector<double> sums(3 * masks);
  to_host(sums.data(), out.sums, sums.size());
  std::vector<MaskEffect> effects(masks);
  for (std::size_t m = 0; m < masks; ++m) {
    const auto fetch = [&](Vector& to, const double* from) {
      to.resize(call.layout.video());
      to_host(to.data(), from + m * video, video);
    };
    fetch(effects[m].dropped, out.dropped);
    fetch(effects[m].kept, out.kept);
    fetch(effects[m].probs_error, out.probs_error2);
    fetch(effects[m].output_error, out.output_error2);
    effects[m].probs_error = effects[m].probs_error.cwiseSqrt();
    effects[m].output_error = effects[m].output_error.cwiseSqrt();
    // Where nothing is dropped, rounding alone tells the two outputs apart.
    for (Index row = 0; row < call.layout.video(); ++row) {
      if (effects[m].dropped[row] == 0.0) effects[m].output_error[row] = 0.0;
    }
    effects[m].output_error1 = effects[m].dropped.isZero(0.0) ? 0.0 : sums[3 * m];
    effects[m].output_dot = sums[3 * m + 1];
    effects[m].output_norm = std::sqrt(sums[3 * m + 2]);
  }
  if (own.remainder != nullptr) add_remainder(own, out, effects);
  return effects;
}

void GpuSweeps::check_rows(const std::vector<std::size_t>& partition, const std::vector<gpu::NestedMasks>& families,
                           std::vector<std::vector<MaskEffect>>& effects) {
  const int checked = gpu::checked_rows(layouts_[0]);
  const auto tokens = static_cast<std::size_t>(problem_->grid.tokens());
  double* const p = probabilities_.at_least(static_cast<std::size_t>(std::min(checked, kCheckedRowsAtOnce)) * tokens);
  std::vector<double> row_l1;
  for (int first = 0; first < checked; first += kCheckedRowsAtOnce) {
    const int rows = std::min(kCheckedRowsAtOnce, checked - first);
    gpu::checked_probabilities(call(0), 0, first, rows, p, stream_.get());
    for (std::size_t f = 0; f < families.size(); ++f) {
      if (effects[f].front().remainder) continue;  // not that identity's
      row_l1.resize(static_cast<std::size_t>(families[f].masks * rows));
      double* const found = row_l1_.at_least(row_l1.size());
      gpu::check_rows(layouts_[partition[f]], families[f], 0, first, rows, p, found, stream_.get());
      to_host(row_l1.data(), found, row_l1.size());
      for (std::size_t i = 0; i < row_l1.size(); ++i) {
        if (row_l1[i] < 0.0) continue;  // the row keeps nothing
        MaskEffect& effect = effects[f][i / static_cast<std::size_t>(rows)];
        const Index row = first + static_cast<Index>(i % static_cast<std::size_t>(rows));
        const double residual = std::abs(row_l1[i] - 2.0 * effect.dropped[row * gpu::kCheckedEvery]);
        effect.row_l1_max = std::max(effect.row_l1_max, row_l1[i]);
        // A NaN must show, and std::max would drop it.
        if (!(residual <= effect.row_l1_residual)) effect.row_l1_residual = residual;
        ++effect.rows_checked;
      }
    }
  }
}

MaskSweep GpuSweeps::masks(std::vector<MaskFamily> families, const Progress& progress) {
  Steps steps(progress, problem_->grid.video(), families.size() + 2);
  std::vector<std::size_t> partition;
  std::vector<gpu::NestedMasks> nested;
  for (const MaskFamily& family : families) {
    partition.push_back(family.partition);
    nested.push_back({nullptr, static_cast<int>(family.cuts.size())});
  }
  const std::vector<std::vector<Level>> levels = levels_of(families);
  std::size_t bytes = 0;
  for (const auto& own : levels) bytes += (own.size() + 15) / 16 * 16;
  std::uint8_t* next = levels_.at_least(bytes);
  for (std::size_t f = 0; f < levels.size(); ++f) {
    to_device(next, levels[f].data(), levels[f].size());
    nested[f].levels = next;
    next += (levels[f].size() + 15) / 16 * 16;
  }
  MaskSweep sweep;
  sweep.dense = dense();
  steps.done();
  for (std::size_t f = 0; f < nested.size(); ++f) {
    sweep.effects.push_back(effects(call(partition[f]), nested[f], families[f]));
    steps.done();
  }
  check_rows(partition, nested, sweep.effects);
  steps.done();
  return sweep;
}

}  // namespace draft
