// Rule:   tiles of 16 tokens; softmax over all tiles of <mean q, mean k> * scale, summed over the tiles of two blocks;
//         the largest of each row.
// Source: DFSAttn, arXiv 2605.23445; jessica-hujie/DFSAttn dad4ace, dfsattn/attention_wan.py and attention_hyvideo.py.
// Ours:   the blocks are regions, where it orders tokens along a Hilbert curve; masks are made anew for every step.

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr Index kTokens = 16;

Matrix scores_of(const PolicyInput& input) {
  const Chunks chunks = chunks_of(*input.partition, kTokens);
  return sum_over_chunks(softmax_rows(chunk_logits(input, chunks)), chunks, input.regions);
}

}  // namespace

PolicyRow dfs_attn_policy() {
  return {.summary = "softmax over tiles of 16 tokens, summed to blocks, top of each row (DFSAttn)",
          .reads = Reads::head,
          .rank = [](const PolicyInput& input) { return rank_blocks(scores_of(input), true); },
          .cut = cut_of_row,
          .cost = [](const ChoiceSize& size) { return cost_of_chunk_maps(size, kTokens); }};
}

}  // namespace draft
