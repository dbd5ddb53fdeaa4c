#pragma once
// From pooled scores to block masks: the draft map (eqs. 3 and 6) and the four selection rules.
//
// A rule gives a total order of the blocks (a Ranking) and, for each sparsity, how many of the first
// blocks are kept (a cut). Masks of one rule at several sparsities are therefore nested.
// Ties are broken by position: of equal scores the block with the lower row-major index comes first.
//
// On a causal grid of g regions blocks above the diagonal are never kept, those on it always, and a sparsity is a share
// of the g (g + 1) / 2 others and diagonal ones.

#include <cstdint>
#include <string>
#include <vector>

#include "reference/kept_count.hpp"
#include "reference/regions.hpp"

namespace draft {

class BlockMask;

/// The softmax of each row. At least one logit of a row is finite, none is +infinity.
Matrix softmax_rows(Matrix logits);

/// Scores of one head over one partition.
struct DraftMap {
  Matrix logits;        // S~_ij = <Q~_i, K~_j>, unscaled (eq. 6), [regions, regions]
  double scale;         // softmax scale
  bool causal = false;  // the softmax is over j <= i alone

  /// A_draft = row softmax of S~ * scale (eq. 3), [regions, regions].
  [[nodiscard]] Matrix probabilities() const;
};

/// Pools Q and K over the partition's regions and multiplies (eqs. 2 and 6). Text is left out.
DraftMap draft_scores(const Problem& problem, const Partition& partition, Pool pool);

/// A total order of the blocks, within the head or within each block row.
struct Ranking {
  Index regions = 0;
  bool by_row = false;              // rank counts within the block row, else within the head
  std::vector<std::uint32_t> rank;  // [regions * regions], 0 = kept first
};

/// Orders by falling score; equal scores by rising index. Throws on a NaN score.
Ranking rank_blocks(const Matrix& scores, bool by_row);
/// Random order of the whole head by rising key splitmix64(splitmix64(splitmix64(seed) + stream) + block),
/// all modulo 2^64: the same on every machine, independent between streams (heads).
Ranking random_ranking(Index regions, std::uint64_t seed, std::uint64_t stream);

/// Blocks that a mask may keep: all, or those on and below the diagonal.
inline Index block_count(Index regions, bool causal) {
  return causal ? regions * (regions + 1) / 2 : regions * regions;
}
/// The ranking for a causal grid: blocks on the diagonal have rank 0, those above it block_count(), which no cut
/// reaches, and a cut c of the head keeps c blocks, the diagonal among them. By row it keeps c / block_count() of each
/// row's i + 1 blocks, rounded to the nearest number, at least the diagonal.
Ranking causal_ranking(Ranking ranking);
/// The mask with the diagonal and without what is above it.
BlockMask causal_mask(BlockMask mask);
/// -infinity above the diagonal; also of chunks that blocks are cut into.
Matrix causal_scores(Matrix scores);

/// The ranking that `rule` uses on this map.
Ranking rank_by_rule(const DraftMap& map, Rule rule);
/// How many blocks of the ranking `rule` keeps (per block row for Rule::row, else per head; causal: always per head).
Index rule_cut(const DraftMap& map, Rule rule, double sparsity);

/// Video x video blocks that are computed; text rows and columns are always kept and not listed here.
class BlockMask {
 public:
  BlockMask(Index regions, bool keep_all);
  BlockMask(const Ranking& ranking, Index cut);

  [[nodiscard]] Index regions() const { return regions_; }
  [[nodiscard]] bool kept(Index row, Index column) const { return kept_[row * regions_ + column] != 0; }
  void set(Index row, Index column, bool keep) { kept_[row * regions_ + column] = keep ? 1 : 0; }
  [[nodiscard]] Index kept_blocks() const;
  /// Kept columns of one block row, ascending.
  [[nodiscard]] std::vector<Index> columns(Index row) const { return columns(row, true); }
  /// The others, ascending.
  [[nodiscard]] std::vector<Index> dropped(Index row) const { return columns(row, false); }
  /// Block rows that keep no video block.
  [[nodiscard]] Index empty_rows() const;
  bool operator==(const BlockMask&) const = default;

 private:
  [[nodiscard]] std::vector<Index> columns(Index row, bool are_kept) const;

  Index regions_;
  std::vector<std::uint8_t> kept_;  // [regions * regions]
};

/// One call for one mask. Throws std::invalid_argument unless 0 <= sparsity < 1.
BlockMask select(const DraftMap& map, Rule rule, double sparsity);

}  // namespace draft
