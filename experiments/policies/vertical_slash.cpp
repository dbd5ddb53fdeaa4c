// Rule:   softmax of 64 queries over all keys, summed by key (a vertical line) and by how far the key is before the
//         query (a slash line); the lines with the largest sums, and of blocks those that such a line passes through.
// Source: MInference's vertical-slash heads, arXiv 2407.02490, algorithm 2; microsoft/MInference fb56c91,
//         minference/modules/minference_forward.py: the last 64 queries; a number of vertical and one of slash lines
//         from a search for each head of a model, where there is none 1000 and 6096; the first 30 keys and the nearest
//         100 distances always.
// Ours:   at a budget both kinds of lines share one threshold, and none is kept always but on causal heads the diagonal
//         blocks. Vertical lines are whole blocks wide, not gathered keys. Where attention is not causal no query is
//         the last: 64 evenly spaced ones, and keys may be behind their query. No released form: the 1000 and 6096
//         lines keep every block of a text or a video of up to 6096 tokens.

#include <algorithm>
#include <limits>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr Index kQueries = 64;

/// Attention of the queries that are looked at, summed along lines.
struct Lines {
  Vector vertical;  // [tokens], by key
  Vector slash;     // [2 tokens - 1], by query - key + tokens - 1
};

/// Places of the queries that are looked at, rising.
std::vector<Index> looked_at(Index tokens, bool causal) {
  const Index count = std::min(kQueries, tokens);
  std::vector<Index> queries;
  for (Index i = 0; i < count; ++i) {
    queries.push_back(causal ? tokens - count + i : (2 * i + 1) * tokens / (2 * count));
  }
  return queries;
}

Lines lines_of(const PolicyInput& input) {
  const Problem& problem = *input.problem;
  const Index tokens = problem.grid.video();
  const std::vector<Index> queries = looked_at(tokens, input.causal);
  const Matrix rows = problem.q(queries, Eigen::all);
  Matrix logits = rows * problem.k.topRows(tokens).transpose() * problem.scale;
  for (std::size_t i = 0; input.causal && i < queries.size(); ++i) {
    logits.row(static_cast<Index>(i))
        .tail(tokens - 1 - queries[i])
        .setConstant(-std::numeric_limits<double>::infinity());
  }
  const Matrix weights = softmax_rows(std::move(logits));
  Lines lines{weights.colwise().sum().transpose(), Vector::Zero(2 * tokens - 1)};
  for (std::size_t i = 0; i < queries.size(); ++i) {
    lines.slash.segment(queries[i], tokens) += weights.row(static_cast<Index>(i)).reverse().transpose();
  }
  return lines;
}

/// The largest sum of a line that passes through each block, [regions, regions].
Matrix scores_of(const PolicyInput& input) {
  const Partition& blocks = *input.partition;
  const Lines lines = lines_of(input);
  Matrix scores(blocks.regions(), blocks.regions());
  for (Index column = 0; column < blocks.regions(); ++column) {
    const double vertical = lines.vertical.segment(blocks.offset(column), blocks.size(column)).maxCoeff();
    for (Index row = 0; row < blocks.regions(); ++row) {
      // The block's least distance is of its first query and its last key.
      const Index least = blocks.offset(row) - blocks.offset(column + 1) + lines.vertical.size();
      const Index distances = blocks.size(row) + blocks.size(column) - 1;
      scores(row, column) = std::max(vertical, lines.slash.segment(least, distances).maxCoeff());
    }
  }
  return scores;
}

}  // namespace

PolicyRow vertical_slash_policy() {
  return {.summary = "keys and diagonals with the most attention of 64 queries (MInference's vertical-slash heads)",
          .layout = BlockLayout::raster,
          .reads = Reads::head,
          .causal = true,
          .rank = [](const PolicyInput& input) { return rank_blocks(scores_of(input), false); },
          .cost =
              [](const ChoiceSize& size) {
                const double map = static_cast<double>(kQueries) * size.tokens;
                return ChoiceCost{.flops = 2 * map * size.head_dim, .bytes = bytes_of_q_and_k(size) / 2 + 2 * 4 * map};
              }};
}

}  // namespace draft
