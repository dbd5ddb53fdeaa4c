#include "reference/draft_mask.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <stdexcept>

#include "reference/exponential.hpp"
#include "reference/random.hpp"

namespace draft {
namespace {

/// Writes each key's rank in rising or falling order; equal keys keep their order of position.
template <typename Key>
void rank_by(std::span<const Key> keys, bool descending, std::span<std::uint32_t> rank) {
  std::vector<std::uint32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0U);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return descending ? keys[a] > keys[b] : keys[a] < keys[b];
  });
  for (std::size_t r = 0; r < order.size(); ++r) rank[order[r]] = static_cast<std::uint32_t>(r);
}

}  // namespace

Matrix softmax_rows(Matrix logits) {
  for (Index i = 0; i < logits.rows(); ++i) {
    logits.row(i).array() -= logits.row(i).maxCoeff();
    exponentiate(logits.row(i).array());
    logits.row(i) /= logits.row(i).sum();
  }
  return logits;
}

Matrix DraftMap::probabilities() const {
  return softmax_rows(causal ? causal_scores(logits * scale) : Matrix(logits * scale));
}

DraftMap draft_scores(const Problem& problem, const Partition& partition, Pool pool) {
  const Matrix q = pool_regions(problem.q, partition, pool);
  const Matrix k = pool_regions(problem.k, partition, pool);
  return {q * k.transpose(), problem.scale, problem.grid.causal};
}

Ranking rank_blocks(const Matrix& scores, bool by_row) {
  if (scores.rows() != scores.cols()) {
    throw std::invalid_argument(
        fmt::format("ranking: scores must be square, found [{}, {}]", scores.rows(), scores.cols()));
  }
  if (scores.hasNaN()) throw std::invalid_argument("ranking: a score is NaN");
  Ranking ranking{scores.rows(), by_row, std::vector<std::uint32_t>(static_cast<std::size_t>(scores.size()))};
  const std::size_t group = static_cast<std::size_t>(by_row ? scores.cols() : scores.size());
  const std::span<const double> keys(scores.data(), ranking.rank.size());
  const std::span<std::uint32_t> ranks(ranking.rank);
  for (std::size_t first = 0; first < keys.size(); first += group) {
    rank_by(keys.subspan(first, group), true, ranks.subspan(first, group));
  }
  return ranking;
}

Ranking random_ranking(Index regions, std::uint64_t seed, std::uint64_t stream) {
  Ranking ranking{regions, false, std::vector<std::uint32_t>(static_cast<std::size_t>(regions * regions))};
  std::vector<std::uint64_t> keys(ranking.rank.size());
  const std::uint64_t start = splitmix_start(seed, stream);
  for (std::size_t block = 0; block < keys.size(); ++block) keys[block] = splitmix64(start + block);
  rank_by(std::span<const std::uint64_t>(keys), false, std::span<std::uint32_t>(ranking.rank));
  return ranking;
}

Ranking causal_ranking(Ranking ranking) {
  const Index regions = ranking.regions, all = block_count(regions, true);
  const auto never = static_cast<std::uint32_t>(all);
  std::vector<std::size_t> below;  // the diagonal, row-major
  for (Index i = 0; i < regions; ++i) {
    for (Index j = 0; j < i; ++j) below.push_back(static_cast<std::size_t>(i * regions + j));
  }
  std::ranges::stable_sort(below, {}, [&](std::size_t block) { return ranking.rank[block]; });
  std::vector<Index> taken(static_cast<std::size_t>(regions), 0);  // of a row
  std::vector<std::uint32_t> rank(ranking.rank.size(), never);
  for (Index i = 0; i < regions; ++i) rank[static_cast<std::size_t>(i * regions + i)] = 0;
  Index next = regions;
  for (const std::size_t block : below) {
    const Index row = static_cast<Index>(block) / regions, place = ++taken[static_cast<std::size_t>(row)];
    // The least cut c for which c (i + 1) / all is place + 1/2, which rounds to place + 1, is one more.
    const Index by_row = ((2 * place + 1) * all + 2 * row + 1) / (2 * (row + 1)) - 1;
    rank[block] = static_cast<std::uint32_t>(ranking.by_row ? by_row : next++);
  }
  ranking.rank = std::move(rank);
  return ranking;
}

BlockMask causal_mask(BlockMask mask) {
  for (Index i = 0; i < mask.regions(); ++i) {
    mask.set(i, i, true);
    for (Index j = i + 1; j < mask.regions(); ++j) mask.set(i, j, false);
  }
  return mask;
}

Matrix causal_scores(Matrix scores) {
  for (Index i = 0; i < scores.rows(); ++i) {
    scores.row(i).tail(scores.cols() - i - 1).setConstant(-std::numeric_limits<double>::infinity());
  }
  return scores;
}

Ranking rank_by_rule(const DraftMap& map, Rule rule) {
  const bool after_softmax = rule == Rule::softmax || rule == Rule::released;
  Ranking ranking = rank_blocks(after_softmax ? map.probabilities() : map.logits, rule == Rule::row);
  return map.causal ? causal_ranking(std::move(ranking)) : ranking;
}

Index rule_cut(const DraftMap& map, Rule rule, double sparsity) {
  const Index regions = map.logits.rows();
  if (rule == Rule::row && !map.causal) return kept_count(sparsity, regions);
  const Index blocks = block_count(regions, map.causal);
  if (rule != Rule::released) return kept_count(sparsity, blocks);

  const Matrix scores = map.probabilities();
  std::vector<double> falling;
  for (Index i = 0; i < regions; ++i) {
    const double* row = scores.data() + i * regions;
    falling.insert(falling.end(), row, row + (map.causal ? i : regions));
  }
  const Index always = map.causal ? regions : 0;  // the diagonal
  const Index count = released_kept_count(sparsity, blocks) - always;
  if (count < 1) return always;
  std::nth_element(falling.begin(), falling.begin() + (count - 1), falling.end(), std::greater<>());
  const double threshold = falling[static_cast<std::size_t>(count - 1)];
  return always + std::count_if(falling.begin(), falling.end(), [&](double score) { return score >= threshold; });
}

BlockMask::BlockMask(Index regions, bool keep_all)
    : regions_(regions), kept_(static_cast<std::size_t>(regions * regions), keep_all ? 1 : 0) {}

BlockMask::BlockMask(const Ranking& ranking, Index cut) : BlockMask(ranking.regions, false) {
  for (std::size_t block = 0; block < kept_.size(); ++block) kept_[block] = ranking.rank[block] < cut ? 1 : 0;
}

Index BlockMask::kept_blocks() const { return std::count(kept_.begin(), kept_.end(), std::uint8_t{1}); }

std::vector<Index> BlockMask::columns(Index row, bool are_kept) const {
  std::vector<Index> columns;
  for (Index column = 0; column < regions_; ++column) {
    if (kept(row, column) == are_kept) columns.push_back(column);
  }
  return columns;
}

Index BlockMask::empty_rows() const {
  Index empty = 0;
  for (Index row = 0; row < regions_; ++row) empty += columns(row).empty() ? 1 : 0;
  return empty;
}

BlockMask select(const DraftMap& map, Rule rule, double sparsity) {
  return BlockMask(rank_by_rule(map, rule), rule_cut(map, rule, sparsity));
}

}  // namespace draft
