// Rule:   <mean q of block i, mean k of block j>, the largest of each row.
// Source: MInference's block-sparse heads, arXiv 2407.02490; microsoft/MInference fb56c91,
//         minference/ops/block_sparse_flash_attention.py: blocks of 64, 100 of them a row, a constant of the code;
//         none of its configurations for language models has such heads.
// Ours:   blocks are regions of 128, of which 50 are as much. At a budget these are the draft's masks by rule row. Its
//         other two kinds of head are streaming_llm's mask (A-shape) and vertical_slash.

#include <algorithm>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr Index kReleasedBlocks = 50;

}  // namespace

PolicyRow minference_policy() {
  return {.summary = "mean queries by mean keys, top of each row (MInference's block-sparse heads)",
          .reads = Reads::head,
          .causal = true,
          .rank = rank_means_by_row,
          .cut = cut_of_row,
          .released =
              [](const PolicyInput& input) {
                return BlockMask(rank_means_by_row(input), std::min(kReleasedBlocks, input.regions));
              },
          .cost = cost_of_pooled_maps};
}

}  // namespace draft
