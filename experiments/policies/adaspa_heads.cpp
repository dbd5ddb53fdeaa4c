// Rule:   adaspa with a sparsity for each head of a call: n heads have a recall above 0.8 at sparsity s; the n with the
//         most get (1 + s) / 2 and the n with the least (3 s - 1) / 2, which together is s.
// Source: AdaSpa, arXiv 2502.21079, as adaspa.cpp. Released: s = 0.8.
// Ours:   the recall is of the mask at the earlier step, where the search is, text included. n is at most half of the
//         heads (the paper does not say what more would do), and no sparsity is below 0.

#include <algorithm>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr double kEnough = 0.8;

/// Attention rows sum to 1 with text, so that what is dropped is all that is missing.
std::vector<double> recalls_at_earlier_step(const PolicyInput& input, const std::vector<double>& sparsities) {
  const Matrix& mass = *input.earlier_mass;
  const Ranking ranking = rank_blocks(mass, true);
  std::vector<double> recalls;
  for (const double sparsity : sparsities) {
    const BlockMask mask(ranking, kept_count(sparsity, input.regions));
    double dropped = 0.0;
    for (Index i = 0; i < input.regions; ++i) {
      for (const Index j : mask.dropped(i)) dropped += mass(i, j);
    }
    recalls.push_back(1.0 - dropped / static_cast<double>(input.partition->offset(input.regions)));
  }
  return recalls;
}

std::vector<Index> cuts(const std::vector<double>& recalls, Index regions, bool, double sparsity) {
  const std::vector<std::size_t> order = falling_order(recalls);
  const auto enough = static_cast<std::size_t>(std::ranges::count_if(recalls, [](double r) { return r > kEnough; }));
  const std::size_t n = std::min(enough, recalls.size() / 2);
  std::vector<Index> kept(recalls.size(), kept_count(sparsity, regions));
  for (std::size_t i = 0; i < n; ++i) {
    kept[order[i]] = kept_count((1 + sparsity) / 2, regions);
    kept[order[order.size() - 1 - i]] = kept_count(std::max((3 * sparsity - 1) / 2, 0.0), regions);
  }
  return kept;
}

constexpr HeadBudget kBudget{recalls_at_earlier_step, cuts};

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
