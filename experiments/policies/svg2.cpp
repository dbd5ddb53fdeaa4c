// Rule:   queries and keys each in clusters by k-means; P_ij = softmax over j of scale <c_i, c_j> + ln n_j, c the means
//         and n_j the number of keys of a cluster; in each row the largest pairs with at least tau of the sum.
// Source: Sparse VideoGen 2, arXiv 2505.18875; svg-project/Sparse-VideoGen 19c2662, svg/kmeans_utils.py,
//         batch_kmeans_Euclid and identify_dynamic_map. Released: 400 clusters of queries and 1000 of keys at 118,800
//         tokens (HunyuanVideo 720p), 50 iterations at the first step and 2 from there on at later ones, tau 0.9 (pairs
//         in front of which the sum is <= tau), at least a tenth of each row's clusters.
// Ours:   as many tokens a cluster as there, on average. All 50 iterations at the measured step, from different random
//         tokens (there they may repeat). At a budget, which is of logits and not of pairs of clusters, all rows share
//         one tau, and the tenth that a row keeps anyway, about a whole budget of 10%, is in the released mask alone.
//         The clusters' pairs are exact: queries and keys are reordered apart from each other, and the blocks of a
//         record are the pieces that both kinds of cuts leave (kept_area is the share of logits).

#include <algorithm>
#include <numeric>

#include "experiments/policies/kmeans.hpp"
#include "experiments/policies/scores.hpp"
#include "reference/random.hpp"

namespace draft {
namespace {

constexpr double kReleasedShare = 0.9, kLeastClusters = 0.1, kTolerance = 1e-4;
constexpr Index kIterations = 50;
constexpr Index kTokens = 118800, kQueryClusters = 400, kKeyClusters = 1000;

/// As many as keep the released number of tokens a cluster, rounded.
Index clusters_of(Index tokens, Index released) {
  return std::max<Index>((2 * tokens * released + kTokens) / (2 * kTokens), 1);
}

struct Sorted {
  std::vector<Index> tokens, starts;
};

/// Tokens by cluster, in their order within one; clusters without tokens are left out.
Sorted sorted_by_cluster(const Matrix& rows, Index video, Index released, std::uint64_t key) {
  const std::vector<Index> cluster =
      kmeans(rows.topRows(video), clusters_of(video, released), kIterations, kTolerance, key);
  Sorted sorted{std::vector<Index>(static_cast<std::size_t>(video)), {}};
  std::iota(sorted.tokens.begin(), sorted.tokens.end(), Index{0});
  const auto of = [&](Index token) { return cluster[static_cast<std::size_t>(token)]; };
  std::ranges::stable_sort(sorted.tokens, {}, of);
  for (Index place = 0; place < video; ++place) {
    const auto at = static_cast<std::size_t>(place);
    if (place == 0 || of(sorted.tokens[at]) != of(sorted.tokens[at - 1])) sorted.starts.push_back(place);
  }
  return sorted;
}

Clusters clusters_of_head(const PolicyInput& input) {
  const Problem& problem = *input.problem;
  const std::uint64_t head = splitmix_start(input.seed, input.stream);
  const Index video = problem.grid.video();
  Sorted queries = sorted_by_cluster(problem.q, video, kQueryClusters, splitmix64(head));
  Sorted keys = sorted_by_cluster(problem.k, video, kKeyClusters, splitmix64(head + 1));
  return {std::move(queries.tokens), std::move(keys.tokens), std::move(queries.starts), std::move(keys.starts)};
}

/// Pairs of clusters, and what they are in pieces.
struct Pairs {
  explicit Pairs(const PolicyInput& input)
      : pieces(*input.partition),
        queries(row_of_tokens(pieces.grid()), {0}, input.clusters->query_starts),
        keys(row_of_tokens(pieces.grid()), {0}, input.clusters->key_starts),
        query_of(cluster_of_pieces(pieces, input.clusters->query_starts)),
        key_of(cluster_of_pieces(pieces, input.clusters->key_starts)) {
    const Problem& problem = *input.problem;
    Matrix logits = problem.scale * pool_regions(problem.q, queries, Pool::average) *
                    pool_regions(problem.k, keys, Pool::average).transpose();
    for (Index j = 0; j < keys.regions(); ++j) {
      logits.col(j).array() += std::log(static_cast<double>(keys.size(j)));
    }
    weights = softmax_rows(std::move(logits));
    before = shares_before(weights);
  }

  [[nodiscard]] double area(Index pair) const {
    return static_cast<double>(queries.size(pair / keys.regions())) *
           static_cast<double>(keys.size(pair % keys.regions()));
  }

  /// Pairs of all rows by rising share in front of them.
  [[nodiscard]] std::vector<Index> order() const {
    std::vector<Index> pairs(static_cast<std::size_t>(before.size()));
    std::iota(pairs.begin(), pairs.end(), Index{0});
    std::ranges::stable_sort(pairs, {}, [&](Index pair) { return before.data()[pair]; });
    return pairs;
  }

  /// What a pair of clusters has, for each pair of its pieces.
  [[nodiscard]] Matrix in_pieces(const Matrix& of_pairs) const { return of_pairs(query_of, key_of); }

  const Partition& pieces;
  Partition queries, keys;
  std::vector<Index> query_of, key_of;  // [piece]
  Matrix weights, before;               // [clusters of queries, clusters of keys]
};

Ranking rank_of(const PolicyInput& input) {
  const Pairs pairs(input);
  Matrix score(pairs.before.rows(), pairs.before.cols());
  double place = 0.0;
  for (const Index pair : pairs.order()) score.data()[pair] = -place++;
  return rank_blocks(pairs.in_pieces(score), false);
}

/// The pieces of as many pairs as the budget of logits has room for, at least one.
Index cut_of_area(const PolicyInput& input, double sparsity) {
  const Pairs pairs(input);
  const auto video = static_cast<double>(pairs.pieces.grid().video());
  const double room = (1.0 - sparsity) * video * video + kWholeNumberSlack;
  Matrix kept = Matrix::Zero(pairs.before.rows(), pairs.before.cols());
  double area = 0.0;
  for (const Index pair : pairs.order()) {
    const bool first = area == 0.0;
    area += pairs.area(pair);
    if (area > room && !first) break;
    kept.data()[pair] = 1.0;
  }
  return static_cast<Index>(pairs.in_pieces(kept).sum());
}

BlockMask released(const PolicyInput& input) {
  const Pairs pairs(input);
  const auto least = static_cast<Index>(kLeastClusters * static_cast<double>(pairs.keys.regions()));
  Matrix kept = Matrix::Zero(pairs.before.rows(), pairs.before.cols());
  std::vector<Index> taken(static_cast<std::size_t>(kept.rows()), 0);
  for (const Index pair : pairs.order()) {
    Index& of_row = taken[static_cast<std::size_t>(pair / kept.cols())];
    if (pairs.before.data()[pair] <= kReleasedShare || of_row < least) kept.data()[pair] = 1.0;
    ++of_row;
  }
  return mask_above(pairs.in_pieces(kept), 0.5, BlockMask(input.regions, false));
}

}  // namespace

PolicyRow svg2_policy() {
  return {.summary = "pairs of clusters of queries and of keys, top-p by their means (Sparse VideoGen 2)",
          .layout = BlockLayout::clusters,
          .find_clusters = clusters_of_head,
          .reads = Reads::head,
          .by_chance = true,
          .rank = rank_of,
          .cut = cut_of_area,
          .released = released,
          .cost = [](const ChoiceSize& size) {
            const auto tokens = static_cast<Index>(size.tokens);
            const auto queries = static_cast<double>(clusters_of(tokens, kQueryClusters));
            const auto keys = static_cast<double>(clusters_of(tokens, kKeyClusters));
            const double rounds = kIterations;
            return ChoiceCost{.flops = 2 * size.head_dim * (rounds * size.tokens * (queries + keys) + queries * keys),
                              .bytes = rounds * bytes_of_q_and_k(size) + 2 * 4 * queries * keys};
          }};
}

}  // namespace draft
