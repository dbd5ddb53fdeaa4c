// Rule:   columns by the attention mass that they get from all queries, and a band |i - j| <= w, of one area each.
// Source: H2O, arXiv 2306.14048; FMInference/H2O ac75c2a, h2o_hf/utils_lm_eval/modify_llama.py: heavy and recent
//         shares 0.1 each, and what came before alone.
// Ours:   columns of blocks; the true mass, which only a study has. Columns and diagonals are taken in turn, those
//         first that have less so far, up to the budget. On causal heads what comes before alone, as released.

#include <algorithm>
#include <numeric>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

Ranking rank_of(const PolicyInput& input) {
  const Index blocks = input.regions;
  const Vector heavy = input.mass->colwise().sum().transpose();
  std::vector<Index> columns(static_cast<std::size_t>(blocks));
  std::iota(columns.begin(), columns.end(), Index{0});
  std::ranges::stable_sort(columns, [&](Index a, Index b) { return heavy[a] > heavy[b]; });
  Matrix unit = Matrix::Constant(blocks, blocks, -1.0);  // in which a block is first taken
  double number = 0.0;
  Index of_columns = 0, of_diagonals = 0, next_column = 0, next_diagonal = 0;
  const auto take = [&](Index row, Index column) {
    if (column >= 0 && column < (input.causal ? row + 1 : blocks) && unit(row, column) < 0.0) {
      unit(row, column) = number;
    }
  };
  while (next_column < blocks || next_diagonal < blocks) {
    const Index left = blocks - next_diagonal;  // blocks of each of the next two diagonals
    const bool a_column = next_diagonal == blocks || (next_column < blocks && of_columns <= of_diagonals);
    for (Index row = 0; row < blocks; ++row) {
      if (a_column) {
        take(row, columns[static_cast<std::size_t>(next_column)]);
      } else {
        take(row, row - next_diagonal);
        take(row, row + next_diagonal);
      }
    }
    if (a_column) {
      of_columns += input.causal ? blocks - columns[static_cast<std::size_t>(next_column)] : blocks;
      ++next_column;
    } else {
      of_diagonals += next_diagonal == 0 || input.causal ? left : 2 * left;
      ++next_diagonal;
    }
    number += 1.0;
  }
  return rank_blocks(-unit, false);
}

}  // namespace

PolicyRow h2o_policy() {
  return {.summary = "columns with the most true attention mass, and a band (H2O)",
          .reads = Reads::head,
          .causal = true,
          .rank = rank_of,
          .cost = cost_of_all_logits};
}

}  // namespace draft
