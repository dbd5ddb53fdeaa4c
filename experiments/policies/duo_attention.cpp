// Rule:   some heads of a call whole, the others as streaming_llm: whole are those whose output a streaming
//         mask changes most (relative L2).
// Source: DuoAttention, arXiv 2410.10819; mit-han-lab/duo-attention fe93c31, duo_attn/utils.py: a gate for each head,
//         trained on retrieval, and a share of whole heads, half or a quarter. Streaming heads have 64 first tokens and
//         256 recent ones.
// Ours:   the gate is the error of that streaming mask in blocks (the first one, and two to both sides), which nothing
//         is trained for. Whole are as many heads as the budget has beside the streaming masks of the others; what is
//         left widens those, so that the blocks of the call are the budget's. A call of few heads has none that is
//         whole at a high sparsity.

#include <algorithm>
#include <map>

#include "experiments/policies/scores.hpp"
#include "reference/attention.hpp"

namespace draft {
namespace {

constexpr Index kRecent = 2;

Ranking streaming(Index blocks, bool causal) {
  return ranking_of(row_of(Policy::streaming_llm), {.regions = blocks, .causal = causal});
}

/// Blocks of the streaming mask, at most the budget's.
Index least_kept(Index blocks, bool causal, double sparsity) {
  Index kept = 0;
  for (Index row = 0; row < blocks; ++row) {
    const Index first = std::max<Index>(row - kRecent, 0), last = causal ? row : std::min(row + kRecent, blocks - 1);
    kept += last - first + 1 + (first > 0 ? 1 : 0);
  }
  return std::min(kept, kept_count(sparsity, block_count(blocks, causal)));
}

std::vector<double> errors_of_streaming(const PolicyInput& input, const std::vector<double>& sparsities) {
  const Index video = input.problem->grid.video();
  const Matrix dense = attend_dense(*input.problem).o.topRows(video);
  const double whole = dense.norm();
  const Ranking ranking = streaming(input.regions, input.causal);
  std::map<Index, double> known;  // by blocks of the mask: most sparsities have room for the whole of it
  std::vector<double> errors;
  for (const double sparsity : sparsities) {
    const Index kept = least_kept(input.regions, input.causal, sparsity);
    const auto [error, is_new] = known.try_emplace(kept, 0.0);
    if (is_new && whole != 0.0) {
      const Output streamed = attend(*input.problem, *input.partition, BlockMask(ranking, kept));
      error->second = (streamed.o.topRows(video) - dense).norm() / whole;
    }
    errors.push_back(error->second);
  }
  return errors;
}

std::vector<Index> cuts(const std::vector<double>& errors, Index regions, bool causal, double sparsity) {
  const auto heads = static_cast<Index>(errors.size());
  const Index all = block_count(regions, causal), budget = heads * kept_count(sparsity, all);
  const Index least = least_kept(regions, causal, sparsity);
  const Index whole = all == least ? heads : (budget - heads * least) / (all - least);
  const std::vector<std::size_t> order = falling_order(errors);
  std::vector<Index> kept(errors.size(), all);
  Index left = budget - whole * all;
  for (Index i = whole; i < heads; ++i) {  // shares that differ by at most one block
    const Index own = left / (heads - i);
    kept[order[static_cast<std::size_t>(i)]] = own;
    left -= own;
  }
  return kept;
}

constexpr HeadBudget kBudget{errors_of_streaming, cuts};

}  // namespace

PolicyRow duo_attention_policy() {
  return {.summary = "whole heads where a streaming mask harms most, streaming ones elsewhere (DuoAttention)",
          .layout = BlockLayout::raster,
          .reads = Reads::head,
          .causal = true,
          .rank = [](const PolicyInput& input) { return streaming(input.regions, input.causal); },
          .cost = [](const ChoiceSize& size) { return ChoiceCost{2 * cost_of_all_logits(size).flops, 0}; },
          .heads = &kBudget};
}

}  // namespace draft
