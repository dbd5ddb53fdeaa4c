#pragma once
// Theorems 3.3 and 3.5 with every step of their proofs and the sharper bounds that follow from the same
// quantities. Each function returns both sides; nothing here decides what to do about a violation.
//
// n counts video rows. P is over video and text columns; kept and dropped tokens, delta and s are over video columns
// alone. Text is always kept and makes mu smaller, so that every bound still holds. On a causal grid the diagonal
// blocks are what text is there: kept and dropped tokens, delta and s are over the blocks below them.

#include <optional>

#include "reference/bounds/logit_sweep.hpp"
#include "reference/bounds/mask_sweep.hpp"
#include "reference/draft_mask.hpp"
#include "reference/norm.hpp"
#include "reference/units.hpp"

namespace draft {

/// Theorem 3.3 (eq. 9): ||S - S_draft||_F <= delta n, S unscaled; n^2 is the number of pairs of tokens, on a causal
/// grid of those in blocks below the diagonal.
struct PoolingError {
  double delta;                   // eq. 8
  double frobenius;               // left side
  double bound;                   // right side
  Index block_row, block_column;  // the first block in row-major order that has deviation delta
  double half_block_share;        // share of the blocks whose own deviation is at least delta / 2
  double delta_radii;             // the O(n d) certificate for delta
  Matrix block_delta;             // delta_ij, unscaled, [regions, regions]
  Matrix block_radii;             // delta_ij's certificate from radii, [regions, regions]
};

/// `stats` must be over `partition` (coarsened() if they are finer), `map` pooled by `pool` over it.
PoolingError pooling_error(const Problem& problem, const Partition& partition, const DraftMap& map, Pool pool,
                           const LogitStats& stats);

/// What a mask keeps, in tokens of video columns.
struct KeptTokens {
  Vector kept_fraction;  // N_K / (N_K + N_D), by block row, [regions]
  double smallest;       // s
};
KeptTokens kept_tokens(const Partition& partition, const BlockMask& mask);

/// Step 1 of Theorem 3.5's proof and what follows from mu alone. It holds for every mask.
struct MaskError {
  double probs_frobenius;  // ||P - P^M||_F
  double trivial_bound;    // sqrt(2 n): two probability rows differ by at most sqrt(2)
  double step_1_bound;     // 2 sqrt(n) max mu
  double bound_sharp_mu;   // sqrt(2 sum mu^2)
  double max_dropped, mean_dropped;
  double output_error_max;   // max ||O_u - O^M_u||_2
  double output_ratio_max;   // max of ||O_u - O^M_u||_2 / (2 mu_u max_v ||V_v||_2) over rows that are not ignored; with
                             // a remainder, its b_u instead of mu_u
  double output_judged_max;  // the same with OutputRounding's noise subtracted from the errors
};
/// Rounding of ||O_u - O^M_u||_2 in units of max_v ||V_v||_2.
struct OutputRounding {
  /// Smaller errors are ignored: they are rounding of n products, 1e-16 each. A row whose mu is 1e-20 has such an error
  /// too, and its ratio would mean nothing.
  double ignored = 1e-12;
  double noise = 0.0;  // the error that rounding may add to a row that is not ignored
};
/// `longest_value` = max_v ||V_v||_2 (longest_row(problem.v)).
MaskError mask_error(const MaskEffect& effect, double longest_value, OutputRounding rounding = {});
MaskError mask_error(const Problem& problem, const MaskEffect& effect);

/// Theorem 3.5 (eq. 10) for a mask that thresholds S~ (or a softmax of it) within every block row.
struct ThresholdBounds {
  double bound;              // eq. 10 with delta scaled like S
  double bound_paper_delta;  // eq. 10 with eq. 8's unscaled delta, as in the paper
  double bound_sharp;        // sqrt(2n) / (1 + s/(1-s) e^(-2 delta))
  double bound_blocks;       // from each block's own delta_ij
  double bound_radii;        // the same from the certificates by radii, which need no n^2 work
  double step_2_ratio;       // max over rows of mu_u / step 2's bound; 0 if nothing is dropped
  /// Whether every block row keeps its largest S~, up to rounding: the theorem assumes it. A softmax that underflows
  /// breaks it, since blocks of probability 0 are ordered by position.
  bool thresholds;
};
/// `units` are those of `map` and `pooling`. Only bound_paper_delta, with its unscaled delta, depends on them.
ThresholdBounds threshold_bounds(const Partition& partition, const DraftMap& map, const PoolingError& pooling,
                                 const BlockMask& mask, const MaskEffect& effect, const std::vector<Index>& row_region,
                                 Units units = {});

}  // namespace draft
