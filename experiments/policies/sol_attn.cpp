// Rule:   a_ij = <mean q of block i, mean k of block j> * scale, above its block row's mean by more than tau
//         deviations: deviation^2 = scale^2 * sum over c of mean q_c^2 Var_j(mean k_c) + (0.001 ln 2)^2; |i - j| <= 1
//         always.
// Source: Sol-Attn, arXiv 2607.24027; NVlabs/Sana, sol-engine, techniques/sparse_backends/sol_attn. Released: tau 0.8
//         to 2; 1 here.
// Ours:   the blocks are regions, not 64 tokens of a Morton curve. At a budget all rows share one tau. What it adds
//         for the other blocks, their pooled keys and values, is no matter of the mask.

#include <cmath>
#include <numbers>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr double kReleasedDeviations = 1.0, kLeastDeviation = 0.001;  // in powers of two

/// In deviations above the row's mean.
Matrix scores_of(const PolicyInput& input) {
  const Matrix q = pool_regions(input.problem->q, *input.partition, Pool::average);
  Matrix k = pool_regions(input.problem->k, *input.partition, Pool::average);
  k.rowwise() -= k.colwise().mean().eval();  // takes each row's mean from its logits
  const Vector variance = k.colwise().squaredNorm().transpose() / static_cast<double>(k.rows());
  const double scale = input.problem->scale, least = kLeastDeviation * std::numbers::ln2;
  Matrix scores = q * k.transpose() * scale;
  for (Index row = 0; row < scores.rows(); ++row) {
    const double squared = scale * scale * q.row(row).cwiseAbs2().dot(variance);
    scores.row(row) /= std::sqrt(squared + least * least);
  }
  return scores;
}

BlockMask always(Index blocks) {
  BlockMask mask(blocks, false);
  for (Index i = 0; i < blocks; ++i) {
    for (Index j = 0; j < blocks; ++j) mask.set(i, j, std::abs(i - j) <= 1);
  }
  return mask;
}

}  // namespace

PolicyRow sol_attn_policy() {
  return {.summary = "mean logits with a block's mean key, in deviations of the row, and neighbours (Sol-Attn)",
          .reads = Reads::head,
          .rank = [](const PolicyInput& input) { return rank_with_forced(scores_of(input), always(input.regions)); },
          .released =
              [](const PolicyInput& input) {
                return mask_above(scores_of(input), kReleasedDeviations, always(input.regions));
              },
          .cost = cost_of_pooled_maps};
}

}  // namespace draft
