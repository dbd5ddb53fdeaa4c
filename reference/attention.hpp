#pragma once
// Block-sparse attention (eq. 5) with an online softmax: the truth that kernels are held to.
// Dense attention (eq. 1) is the full mask.
//
// With a pooled remainder a dropped block is not left out but takes part in the same softmax, in coarse form: each of
// its columns has the block's mean key and mean value. A row's logit there is the mean of its logits in that block, so
// that this is dense attention with the logits and the values of dropped blocks replaced by their means.

#include "reference/draft_mask.hpp"

namespace draft {

/// Rows in original token order. A row that keeps nothing and has no remainder has output 0 and lse = -infinity.
struct Output {
  Matrix o;    // [tokens, head_dim]
  Vector lse;  // log of the sum of exp(scale * S) over the kept columns, and the remainder's, [tokens]
};

/// Video rows attend to the blocks that the mask keeps and to all text; text rows attend to everything.
/// On a causal grid a token attends to itself and those before it, within the kept blocks.
/// Only kept blocks are computed; memory O(tokens * head_dim), all cores unless `threads` says otherwise.
/// Throws std::invalid_argument if the mask's or the partition's shape does not fit the problem.
Output attend(const Problem& problem, const Partition& partition, const BlockMask& mask, int threads = 0);

/// What a pooled remainder puts in a region's place.
struct PooledRows {
  Matrix k, v;  // [regions, head_dim]
};
/// The means of each region's keys and values.
PooledRows pooled_rows(const Problem& problem, const Partition& partition);

/// The same, with `remainder` in place of dropped blocks: region j adds |R_j| exp(scale <Q_u, k_j>) to the denominator
/// of every row u that drops it, and that weight times v_j to the numerator; on a causal grid those regions alone that
/// end before u's. `remainder` may be rounded or any other rows; null: none. Throws std::invalid_argument also if its
/// shape does not fit.
Output attend(const Problem& problem, const Partition& partition, const BlockMask& mask, const PooledRows* remainder,
              int threads = 0);

/// The full mask.
Output attend_dense(const Problem& problem, int threads = 0);

}  // namespace draft
