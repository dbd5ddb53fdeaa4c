// Rule:   per page of 16 keys the least and the largest of each channel, lo and hi; a block's score is the largest
//         over the block row's queries and the block's pages of the sum over c of max(q_c lo_c, q_c hi_c), a bound of
//         its logits; the largest of each row.
// Source: Quest, arXiv 2406.10774; mit-han-lab/Quest 01c1623, evaluation/quest_attention.py.
// Ours:   Quest chooses pages for one query of a decoder; a block row takes the largest of its queries.

#include <algorithm>
#include <limits>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr Index kPage = 16;

Matrix scores_of(const PolicyInput& input) {
  const Partition& partition = *input.partition;
  const Problem& problem = *input.problem;
  const Chunks pages = chunks_of(partition, kPage);
  const Matrix queries = reorder(problem.q, partition), keys = reorder(problem.k, partition);
  const Matrix most = pool_regions(keys, pages.partition, Pool::maximum);
  const Matrix least = -pool_regions(-keys, pages.partition, Pool::maximum);
  Matrix scores = Matrix::Constant(partition.regions(), partition.regions(), -std::numeric_limits<double>::infinity());
  for (Index block = 0; block < partition.regions(); ++block) {
    const auto q = queries.middleRows(partition.offset(block), partition.size(block));
    const Matrix bounds = q.cwiseMax(0.0) * most.transpose() + q.cwiseMin(0.0) * least.transpose();
    for (Index page = 0; page < pages.count(); ++page) {
      double& score = scores(block, pages.block_of[static_cast<std::size_t>(page)]);
      score = std::max(score, bounds.col(page).maxCoeff());
    }
  }
  return scores;
}

}  // namespace

PolicyRow quest_policy() {
  return {.summary = "the largest logit that pages of 16 keys allow (Quest)",
          .reads = Reads::head,
          .causal = true,
          .rank = [](const PolicyInput& input) { return rank_blocks(scores_of(input), true); },
          .cut = cut_of_row,
          .cost =
              [](const ChoiceSize& size) {
                const double pages = size.tokens / static_cast<double>(kPage);
                return ChoiceCost{.flops = 4 * size.tokens * pages * size.head_dim,
                                  .bytes = bytes_of_q_and_k(size) + 2 * 4 * size.tokens * pages};
              }};
}

}  // namespace draft
