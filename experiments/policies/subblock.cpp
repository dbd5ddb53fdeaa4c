// Rule:   blocks cut into parts of 16 tokens; log of the sum over their pairs of exp(<mean q, mean k> * scale); the
//         largest of each row.
// Source: SubBlock, sgl-project/sglang pull request 34148, layers/attention/backends/subblock_sparse/router.py.
// Ours:   the blocks are regions of 128, not 64 tokens, and text is in no score; there is no budget in steps of eight
//         blocks.

#include <algorithm>
#include <limits>

#include "experiments/policies/scores.hpp"
#include "reference/exponential.hpp"

namespace draft {
namespace {

constexpr Index kTokens = 16;

Matrix scores_of(const PolicyInput& input) {
  const Partition& partition = *input.partition;
  const Chunks chunks = chunks_of(partition, kTokens);
  Matrix logits = chunk_logits(input, chunks);
  std::vector<double> most(static_cast<std::size_t>(partition.regions()), -std::numeric_limits<double>::infinity());
  for (Index chunk = 0; chunk < chunks.count(); ++chunk) {
    double& own = most[static_cast<std::size_t>(chunks.block_of[static_cast<std::size_t>(chunk)])];
    own = std::max(own, logits.row(chunk).maxCoeff());
  }
  for (Index chunk = 0; chunk < chunks.count(); ++chunk) {
    const Index block = chunks.block_of[static_cast<std::size_t>(chunk)];
    logits.row(chunk).array() -= most[static_cast<std::size_t>(block)];
    exponentiate(logits.row(chunk).array());
  }
  return sum_over_chunks(logits, chunks, partition.regions());  // without the logarithm: the order is the same
}

}  // namespace

PolicyRow subblock_policy() {
  return {.summary = "sums over sub-blocks of 16 tokens, top of each row (SubBlock)",
          .reads = Reads::head,
          .rank = [](const PolicyInput& input) { return rank_blocks(scores_of(input), true); },
          .cut = cut_of_row,
          .cost = [](const ChoiceSize& size) { return cost_of_chunk_maps(size, kTokens); }};
}

}  // namespace draft
