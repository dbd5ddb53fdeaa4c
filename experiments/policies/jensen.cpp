// Rule:   the draft's logits and half the variance of their tokens' logits, what the mean of exponentials has over the
//         exponential of the mean to second order: scale <mean q, mean k> + scale^2 / 2 * sum over c of (mean q_c^2
//         var k_c + mean k_c^2 var q_c + var q_c var k_c), channels taken as independent; softmax; the head's largest.
// Source: the diagonal Jensen correction of anemoi-project/anemoi, a successor of DraftAttention. Released: off
//         (diag_jensen).
// Ours:   one threshold a head, as the draft's rule softmax, in float64 where it rounds to float16.

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

Matrix scores_of(const PolicyInput& input) {
  const Partition& partition = *input.partition;
  const auto mean = [&](const Matrix& rows) { return pool_regions(rows, partition, Pool::average); };
  const std::vector<Index> block_of = partition.region_of_token();
  const auto variance = [&](const Matrix& rows, const Matrix& means) {
    Matrix squares = rows;
    for (std::size_t token = 0; token < block_of.size(); ++token) {
      auto row = squares.row(static_cast<Index>(token));
      row = (row - means.row(block_of[token])).cwiseAbs2().eval();
    }
    return mean(squares);
  };
  const double scale = input.problem->scale;
  const Matrix q = mean(input.problem->q), k = mean(input.problem->k);
  const Matrix q_variance = variance(input.problem->q, q), k_variance = variance(input.problem->k, k);
  Matrix second = q.cwiseAbs2() * k_variance.transpose() + q_variance * k.cwiseAbs2().transpose() +
                  q_variance * k_variance.transpose();
  second *= scale * scale / 2;
  return softmax_rows(q * k.transpose() * scale + second);
}

}  // namespace

PolicyRow jensen_policy() {
  return {.summary = "the draft with the variance of a block's logits (Jensen's gap)",
          .reads = Reads::head,
          .rank = [](const PolicyInput& input) { return rank_blocks(scores_of(input), false); },
          .cost =
              [](const ChoiceSize& size) {
                ChoiceCost cost = cost_of_pooled_maps(size);
                cost.flops += 2 * 3 * size.tokens * size.head_dim + 3 * 2 * size.blocks * size.blocks * size.head_dim;
                return cost;
              }};
}

}  // namespace draft
