// Rule:   a block of q or of k - mean k passes if the mean cosine of its token pairs is above theta. Softmax over the
//         passing columns of <mean q, mean k - mean of all k> * scale; columns and rows that fail are kept whole; of
//         the rest of a row the largest whose sum is at most tau, one at least.
// Source: SpargeAttn, arXiv 2502.18137; thu-ml/SpargeAttn bfd980b, spas_sage_attn/{utils,core}.py. Released: theta
//         0.6, tau 0.98; or theta -0.1, which every block passes, with the largest of each row, which a budget takes.
// Ours:   the blocks are regions; the second gate, in the kernel, is left out. At a budget these are the draft's masks
//         by rule row, since a mean that all keys lose moves a row as a whole. A block with a token of zeros fails.

#include <limits>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr double kReleasedCosine = 0.6, kReleasedShare = 0.98;

/// [blocks]: whether the mean cosine of a block's token pairs, which is the squared length of the mean direction, is
/// above kReleasedCosine.
std::vector<bool> passing(const Matrix& rows, const Partition& partition) {
  Matrix directions = rows;
  for (Index row = 0; row < rows.rows(); ++row) directions.row(row) /= rows.row(row).norm();  // NaN without a direction
  const Matrix means = pool_regions(directions, partition, Pool::average);
  std::vector<bool> found;
  for (Index block = 0; block < means.rows(); ++block)
    found.push_back(means.row(block).squaredNorm() > kReleasedCosine);
  return found;
}

struct Gated {
  Matrix scores;     // softmax over the passing columns; 0 elsewhere
  BlockMask forced;  // of columns and rows that fail
};

Gated gated(const PolicyInput& input) {
  const Partition& partition = *input.partition;
  const Problem& problem = *input.problem;
  Matrix k = problem.k;
  k.rowwise() -= problem.k.topRows(problem.grid.video()).colwise().mean();
  const std::vector<bool> rows = passing(problem.q, partition), columns = passing(k, partition);
  Matrix logits = pool_regions(problem.q, partition, Pool::average) *
                  pool_regions(k, partition, Pool::average).transpose() * problem.scale;
  Gated result{std::move(logits), BlockMask(partition.regions(), false)};
  bool any = false;
  for (std::size_t column = 0; column < columns.size(); ++column) {
    any = any || columns[column];
    if (!columns[column])
      result.scores.col(static_cast<Index>(column)).setConstant(-std::numeric_limits<double>::infinity());
  }
  if (any) {
    result.scores = softmax_rows(std::move(result.scores));
  } else {
    result.scores.setZero();
  }
  for (Index row = 0; row < partition.regions(); ++row) {
    for (Index column = 0; column < partition.regions(); ++column) {
      const bool pass = rows[static_cast<std::size_t>(row)] && columns[static_cast<std::size_t>(column)];
      if (!pass) result.forced.set(row, column, true);
    }
  }
  return result;
}

BlockMask released(const PolicyInput& input) {
  auto [scores, mask] = gated(input);
  const Ranking order = rank_blocks(scores, true);
  for (Index row = 0; row < input.regions; ++row) {
    std::vector<Index> by_rank(static_cast<std::size_t>(input.regions));
    for (Index column = 0; column < input.regions; ++column) {
      by_rank[order.rank[static_cast<std::size_t>(row * input.regions + column)]] = column;
    }
    double sum = 0.0;
    for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
      sum += scores(row, by_rank[rank]);
      if (rank > 0 && sum > kReleasedShare) break;
      mask.set(row, by_rank[rank], true);
    }
  }
  return mask;
}

}  // namespace

PolicyRow sparge_policy() {
  return {.summary = "as minference, blocks of unlike tokens always kept (SpargeAttn)",
          .reads = Reads::head,
          .rank = rank_means_by_row,
          .cut = cut_of_row,
          .released = released,
          .cost = [](const ChoiceSize& size) {
            ChoiceCost cost = cost_of_pooled_maps(size);
            cost.flops += 2 * 4 * size.tokens * size.head_dim;  // lengths and directions
            return cost;
          }};
}

}  // namespace draft
