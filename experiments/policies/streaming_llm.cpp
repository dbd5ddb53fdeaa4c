// Rule:   the first block of keys, and the blocks near one's own: by |i - j|.
// Source: StreamingLLM, arXiv 2309.17453; mit-han-lab/streaming-llm 2e50426, streaming_llm/kv_cache.py: 4 first tokens
//         and the last 512.
// Ours:   blocks in token order; what follows is as near as what came before, where attention is not causal.
//         Released: one first block and four to both sides.

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr double kReleasedBlocks = 4;

/// |i - j|, and less than any for the first block.
Matrix farness(Index blocks) {
  Matrix far = distances(blocks);
  far.col(0).setConstant(-1.0);
  return far;
}

}  // namespace

PolicyRow streaming_llm_policy() {
  return {.summary = "the first block and those near one's own in token order (StreamingLLM)",
          .layout = BlockLayout::raster,
          .causal = true,
          .rank = [](const PolicyInput& input) { return rank_blocks(-farness(input.regions), false); },
          .released =
              [](const PolicyInput& input) {
                return mask_above(-farness(input.regions), -kReleasedBlocks - 0.5, BlockMask(input.regions, false));
              }};
}

}  // namespace draft
