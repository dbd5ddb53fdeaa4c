#pragma once
// Block-sparse attention (eq. 5) with an online softmax: the truth that kernels are held to.
// Dense attention (eq. 1) is the full mask.

#include "reference/draft_mask.hpp"

namespace draft {

/// Rows in original token order. A row that keeps nothing has output 0 and lse = -infinity.
struct Output {
  Matrix o;    // [tokens, head_dim]
  Vector lse;  // log of the sum of exp(scale * S) over the kept columns, [tokens]
};

/// Video rows attend to the blocks that the mask keeps and to all text; text rows attend to everything.
/// Only kept blocks are computed; memory O(tokens * head_dim), all cores unless `threads` says otherwise.
/// Throws std::invalid_argument if the mask's or the partition's shape does not fit the problem.
Output attend(const Problem& problem, const Partition& partition, const BlockMask& mask, int threads = 0);

/// The full mask.
Output attend_dense(const Problem& problem, int threads = 0);

}  // namespace draft
