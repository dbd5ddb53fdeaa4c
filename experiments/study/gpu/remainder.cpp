// The pooled remainder behind the second sweep on the GPU: from what a mask keeps of each row, from the row's mass in
// each block and from pooled K and V to the output and the error with the remainder. Its softmax has one weight for
// each region, so that the host computes it, in fp64.
#include <algorithm>
#include <cmath>

#include "experiments/study/gpu/sweeps.hpp"
#include "reference/norm.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

/// A block row under a mask, and what the GPU found of it: by token of the video.
struct Place {
  const std::vector<Index>& tokens;
  const std::vector<Index>& dropped;  // regions
  const Matrix& logs;                 // ln of |R_j| e^(z_j), [rows, regions]
  const FloatRows& masses;            // [video, regions]
  const FloatRows& dense;             // [video, head_dim]
  const FloatRows& kept_output;       // O^M, [video, head_dim]
  const std::vector<double>& sharpness;
  const std::vector<double>& dropped_square;
};

struct Sums {
  double error1 = 0.0, dot = 0.0, square = 0.0;
  void add(const Sums& other) {
    error1 += other.error1;
    dot += other.dot;
    square += other.square;
  }
};

/// Row `row` of the block row. In the notation of reference/bounds/remainder.hpp the shares are P'_u summed over what
/// is kept and over each dropped block: e^(z_j) / W and so on, with the largest of them taken out first.
void add_row(const Place& place, Index row, const CoarseRegions& regions, MaskEffect& effect, Sums& sums) {
  const Index token = place.tokens[static_cast<std::size_t>(row)];
  const double log_kept = std::log(effect.kept[token]);  // -infinity if nothing is
  double highest = log_kept;
  for (const Index j : place.dropped) highest = std::max(highest, place.logs(row, j));
  const double kept_weight = std::exp(log_kept - highest);
  std::vector<double> weights;  // of place.dropped
  double total = kept_weight;
  for (const Index j : place.dropped) total += weights.emplace_back(std::exp(place.logs(row, j) - highest));
  const double kept = kept_weight / total;
  // Over kept columns P - P' = P^M (kept mass - its share); over a dropped block sum (P - P')^2 is expanded.
  double probs_error2 = place.sharpness[static_cast<std::size_t>(token)] * std::pow(effect.kept[token] - kept, 2) +
                        place.dropped_square[static_cast<std::size_t>(token)];
  Eigen::RowVectorXd output = kept * place.kept_output.row(token).cast<double>();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Index j = place.dropped[i];
    const double share = weights[i] / total, each = share / regions.sizes[j];
    output += share * regions.values.row(j);
    probs_error2 += each * (share - 2.0 * static_cast<double>(place.masses(token, j)));
  }
  const Eigen::RowVectorXd dense = place.dense.row(token).cast<double>();
  effect.probs_error[token] = std::sqrt(std::max(probs_error2, 0.0));  // below 0 by rounding
  sums.dot += dense.dot(output);
  sums.square += output.squaredNorm();
  if (effect.dropped[token] == 0.0) {  // then rounding alone tells the outputs apart
    effect.output_error[token] = effect.probs_error[token] = 0.0;
    return;
  }
  effect.output_error[token] = safe_norm(dense - output);
  sums.error1 += (dense - output).lpNorm<1>();
}

}  // namespace

const FloatRows& GpuSweeps::row_masses(std::size_t partition) {
  const auto [found, is_new] = row_masses_.try_emplace(partition);
  FloatRows& rows = found->second;
  if (!is_new) return rows;
  const gpu::SweepCall call = this->call(partition);
  rows.resize(call.layout.video(), call.layout.regions());
  float* const masses = masses_.at_least(static_cast<std::size_t>(rows.size()));
  gpu::row_masses(call, scratch_.at_least(gpu::logit_sweep_scratch(call.layout)), lse_.data(), masses, stream_.get());
  to_host(rows.data(), masses, static_cast<std::size_t>(rows.size()));
  return rows;
}

void GpuSweeps::add_remainder(const MaskFamily& family, const gpu::MaskEffects& plain,
                              std::vector<MaskEffect>& effects) {
  const Partition& partition = partitions_[family.partition];
  const CoarseRegions& regions = *family.remainder;
  const Index video = problem_->grid.video(), dim = problem_->head_dim();
  if (dense_rows_.size() == 0) {
    dense_rows_.resize(video, dim);
    to_host(dense_rows_.data(), dense_.data(), static_cast<std::size_t>(dense_rows_.size()));
  }
  Vector lse(video);
  to_host(lse.data(), lse_.data(), static_cast<std::size_t>(video));
  const Matrix keys = pool_regions(problem_->k, partition, Pool::average);
  FloatRows output(video, dim);
  std::vector<double> sharpness(static_cast<std::size_t>(video)), dropped_square(sharpness.size());
  for (std::size_t m = 0; m < effects.size(); ++m) {
    const auto first = static_cast<Index>(m) * video;
    to_host(output.data(), plain.output + first * dim, static_cast<std::size_t>(output.size()));
    to_host(sharpness.data(), plain.sharpness + first, sharpness.size());
    to_host(dropped_square.data(), plain.dropped_square + first, dropped_square.size());
    MaskEffect& effect = effects[m];
    const BlockMask mask(family.ranking, family.cuts[m]);
    std::vector<Sums> sums(static_cast<std::size_t>(partition.regions()));
    const FloatRows& masses = row_masses(family.partition);
    parallel_for(partition.regions(), threads_, [&] {
      return [&](Index i) {
        const std::vector<Index> tokens(partition.order().begin() + partition.offset(i),
                                        partition.order().begin() + partition.offset(i) + partition.size(i));
        const std::vector<Index> dropped = mask.dropped(i);
        const Matrix queries = problem_->q(tokens, Eigen::all);
        Matrix logs = problem_->scale * (queries * keys.transpose());
        logs.colwise() -= Vector(lse(tokens));
        logs.rowwise() += regions.sizes.array().log().matrix().transpose();
        const Place place{tokens, dropped, logs, masses, dense_rows_, output, sharpness, dropped_square};
        for (Index row = 0; row < logs.rows(); ++row) {
          add_row(place, row, regions, effect, sums[static_cast<std::size_t>(i)]);
        }
      };
    });
    Sums whole;
    for (const Sums& own : sums) whole.add(own);
    effect.output_error1 = whole.error1;
    effect.output_dot = whole.dot;
    effect.output_norm = std::sqrt(whole.square);
    effect.remainder.emplace().bound = effect.dropped;  // b_u <= mu_u; tighter bounds are the reference's alone
  }
}

}  // namespace draft
