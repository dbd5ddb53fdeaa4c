#include "experiments/policies/scores.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace draft {

Matrix shares_before(const Matrix& scores) {
  Matrix shares(scores.rows(), scores.cols());
  std::vector<Index> order(static_cast<std::size_t>(scores.cols()));
  for (Index row = 0; row < scores.rows(); ++row) {
    std::iota(order.begin(), order.end(), Index{0});
    std::ranges::stable_sort(order, [&](Index a, Index b) { return scores(row, a) > scores(row, b); });
    const double whole = scores.row(row).sum();
    double before = 0.0;
    for (const Index column : order) {
      shares(row, column) = before / whole;
      before += scores(row, column);
    }
  }
  return shares;
}

Ranking rank_by_shares(const Matrix& scores) { return rank_blocks(-shares_before(scores), false); }

Ranking rank_with_forced(const Matrix& scores, const BlockMask& forced) {
  Ranking ranking = rank_blocks(scores, false);
  const auto blocks = static_cast<Index>(ranking.rank.size()), columns = scores.cols();
  std::vector<Index> order(ranking.rank.size());
  for (Index block = 0; block < blocks; ++block) order[ranking.rank[static_cast<std::size_t>(block)]] = block;
  std::ranges::stable_partition(order, [&](Index block) { return forced.kept(block / columns, block % columns); });
  for (Index place = 0; place < blocks; ++place) {
    ranking.rank[static_cast<std::size_t>(order[static_cast<std::size_t>(place)])] = static_cast<std::uint32_t>(place);
  }
  return ranking;
}

BlockMask mask_above(const Matrix& scores, double threshold, const BlockMask& forced) {
  BlockMask mask = forced;
  for (Index row = 0; row < scores.rows(); ++row) {
    for (Index column = 0; column < scores.cols(); ++column) {
      if (scores(row, column) > threshold) mask.set(row, column, true);
    }
  }
  return mask;
}

Matrix distances(Index blocks) {
  Matrix apart(blocks, blocks);
  for (Index i = 0; i < blocks; ++i) {
    for (Index j = 0; j < blocks; ++j) apart(i, j) = static_cast<double>(std::abs(i - j));
  }
  return apart;
}

Ranking rank_by_distance(Index blocks) { return rank_blocks(-distances(blocks), false); }

std::vector<std::size_t> falling_order(const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return values[a] > values[b]; });
  return order;
}

Index cut_of_row(const PolicyInput& input, double sparsity) {
  return kept_count(sparsity, input.causal ? block_count(input.regions, true) : input.regions);
}

Ranking rank_means_by_row(const PolicyInput& input) {
  Matrix scores = draft_scores(*input.problem, *input.partition, Pool::average).logits;
  return rank_blocks(input.causal ? causal_scores(std::move(scores)) : scores, true);
}

Chunks chunks_of(const Partition& partition, Index tokens) {
  std::vector<Index> starts, block_of;
  for (Index block = 0; block < partition.regions(); ++block) {
    for (Index first = 0; first < partition.size(block); first += tokens) {
      starts.push_back(partition.offset(block) + first);
      block_of.push_back(block);
    }
  }
  return {Partition(row_of_tokens(partition.grid()), {0}, std::move(starts)), std::move(block_of)};
}

Matrix chunk_logits(const PolicyInput& input, const Chunks& chunks) {
  const auto means = [&](const Matrix& rows) {
    return pool_regions(reorder(rows, *input.partition), chunks.partition, Pool::average);
  };
  return means(input.problem->q) * means(input.problem->k).transpose() * input.problem->scale;
}

ChoiceCost cost_of_chunk_maps(const ChoiceSize& size, Index tokens) {
  return cost_of_pooled_maps({size.tokens, size.head_dim, size.tokens / static_cast<double>(tokens)});
}

Matrix sum_over_chunks(const Matrix& of_chunks, const Chunks& chunks, Index blocks) {
  Matrix sums = Matrix::Zero(blocks, blocks);
  for (Index row = 0; row < chunks.count(); ++row) {
    const Index block = chunks.block_of[static_cast<std::size_t>(row)];
    for (Index column = 0; column < chunks.count(); ++column) {
      sums(block, chunks.block_of[static_cast<std::size_t>(column)]) += of_chunks(row, column);
    }
  }
  return sums;
}

}  // namespace draft
