#pragma once
// What several policies score blocks by.

#include <vector>

#include "experiments/policies/policy.hpp"

namespace draft {

/// What stands before each entry in its row, entries in falling order, as a share of the row's sum. The entries whose
/// share is below tau are the smallest set with at least tau of the row ("top-p"). Scores are at least 0, and no row's
/// sum is 0.
Matrix shares_before(const Matrix& scores);
/// Top-p at every tau at once, of the whole head: by rising share.
Ranking rank_by_shares(const Matrix& scores);

/// The head's order by falling score, forced blocks before all others: where a budget has no room for all of them, the
/// best of them stay.
Ranking rank_with_forced(const Matrix& scores, const BlockMask& forced);
/// The entries above the threshold, and the forced ones.
BlockMask mask_above(const Matrix& scores, double threshold, const BlockMask& forced);

/// |i - j| of all blocks.
Matrix distances(Index blocks);
/// A band of the head: by rising |i - j|.
Ranking rank_by_distance(Index blocks);

/// Numbers of `values` from the largest to the least, of equal ones the earlier first.
std::vector<std::size_t> falling_order(const std::vector<double>& values);

/// kept_count of a block row, of a causal grid that of the head: the cut of policies that rank by row.
Index cut_of_row(const PolicyInput& input, double sparsity);

/// By <mean q of block i, mean k of block j>, the largest of each row first.
Ranking rank_means_by_row(const PolicyInput& input);

/// Blocks cut into chunks of tokens that follow one another, the last one of a block perhaps shorter.
struct Chunks {
  Partition partition;          // of a row of tokens: rows are to be in the blocks' order, see `reorder`
  std::vector<Index> block_of;  // [chunks]
  [[nodiscard]] Index count() const { return partition.regions(); }
};
Chunks chunks_of(const Partition& partition, Index tokens);
/// <mean q of a chunk, mean k of a chunk> * scale, [chunks, chunks].
Matrix chunk_logits(const PolicyInput& input, const Chunks& chunks);
/// What those cost.
ChoiceCost cost_of_chunk_maps(const ChoiceSize& size, Index tokens);
/// The sum over a block's chunks, [blocks, blocks].
Matrix sum_over_chunks(const Matrix& of_chunks, const Chunks& chunks, Index blocks);

}  // namespace draft
