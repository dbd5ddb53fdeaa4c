// Rule:   adaspa with a sparsity for each head of a call: n heads have a recall above 0.8 at sparsity s; the n with the
//         most get (1 + s) / 2 and the n with the least (3 s - 1) / 2, which together is s.
// Source: AdaSpa, arXiv 2502.21079, as adaspa.cpp. Released: s = 0.8.
// Ours:   the recall is of the mask at the earlier step, where the search is, text included. n is at most half of the
//         heads (the paper does not say what more would do), and no sparsity is below 0.

#include <algorithm>
#include <numeric>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr double kEnough = 0.8;

/// Attention rows sum to 1 with text, so that what is dropped is all that is missing.
double recall_at_earlier_step(const PolicyInput& input, double sparsity) {
  const Matrix& mass = *input.earlier_mass;
  const BlockMask mask(rank_blocks(mass, true), kept_count(sparsity, input.regions));
  double dropped = 0.0;
  for (Index i = 0; i < input.regions; ++i) {
    for (Index j = 0; j < input.regions; ++j) dropped += mask.kept(i, j) ? 0.0 : mass(i, j);
  }
  return 1.0 - dropped / static_cast<double>(input.partition->offset(input.regions));
}

std::vector<Index> cuts(const std::vector<double>& recalls, Index regions, double sparsity) {
  std::vector<std::size_t> order(recalls.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return recalls[a] > recalls[b]; });
  const auto enough = static_cast<std::size_t>(std::ranges::count_if(recalls, [](double r) { return r > kEnough; }));
  const std::size_t n = std::min(enough, recalls.size() / 2);
  std::vector<Index> kept(recalls.size(), kept_count(sparsity, regions));
  for (std::size_t i = 0; i < n; ++i) {
    kept[order[i]] = kept_count((1 + sparsity) / 2, regions);
    kept[order[order.size() - 1 - i]] = kept_count(std::max((3 * sparsity - 1) / 2, 0.0), regions);
  }
  return kept;
}

constexpr HeadBudget kBudget{recall_at_earlier_step, cuts};

}  // namespace

PolicyRow adaspa_heads_policy() {
  return {.summary = "adaspa, heads with much recall sparser for the sake of those with little",
          .reads = Reads::earlier,
          .rank = [](const PolicyInput& input) { return rank_blocks(*input.earlier_mass, true); },
          .cut = cut_of_row,
          .cost = cost_of_all_logits,
          .heads = &kBudget};
}

}  // namespace draft
