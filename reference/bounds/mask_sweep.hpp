#pragma once
// Second sweep over a head's logits: what every mask drops and what its sparse output is, for all
// masks of all partitions at once. A block's P V product is computed once and added once for each
// family of nested masks, however many sparsities the family holds.

#include <optional>
#include <vector>

#include "reference/bounds/logit_sweep.hpp"
#include "reference/bounds/remainder.hpp"
#include "reference/draft_mask.hpp"
#include "reference/stripes.hpp"

namespace draft {

/// Masks of one ranking over one partition, growing with the cut.
struct MaskFamily {
  std::size_t partition;  // its place among those that are swept
  Ranking ranking;
  std::vector<Index> cuts;                   // rising, without repeats: mask m keeps the blocks of rank < cuts[m]
  const CoarseRegions* remainder = nullptr;  // of the partition, if dropped blocks have a pooled remainder
};

/// What the bounds of a pooled remainder say of each row, [video] as below. Sweeps that know mu_u alone give it as
/// `bound` and leave the others empty.
struct RemainderEffect {
  Vector bound, bound_radii, bound_gap, recall_bound;  // RemainderBounds'
  double row_l1_excess = 0.0;                          // max ||P_u - P'_u||_1 - 2 bound over the checked rows, or 0
};

/// What one mask does to the head's video rows. Rows are in region order of the atoms. P is dense
/// attention, P^M attention under the mask; both over video and text columns, text always kept.
/// A row that keeps nothing has P^M = 0 and output 0. With a pooled remainder P^M and O^M are that attention's, which
/// reference/bounds/remainder.hpp calls P' and O', and no row is empty.
struct MaskEffect {
  Vector dropped;                // mu_u, [video]
  Vector kept;                   // 1 - mu_u, summed over what is kept, so that neither loses digits, [video]
  Vector probs_error;            // ||P_u - P^M_u||_2, [video]; not squared: squares underflow for mu below 1e-154
  Vector output_error;           // ||O_u - O^M_u||_2, [video]
  double output_error1 = 0.0;    // sum |O - O^M|
  double output_dot = 0.0;       // sum O * O^M
  double output_norm = 0.0;      // root of sum (O^M)^2
  double row_l1_max = 0.0;       // max ||P_u - P^M_u||_1 over the checked rows that keep something or have a remainder
  double row_l1_residual = 0.0;  // max | ||P_u - P^M_u||_1 - 2 mu_u | over the same rows, element by element; 0 with a
                                 // remainder
  Index rows_checked = 0;        // video tokens 0, 128, 256, ... in original order, those rows
  std::optional<RemainderEffect> remainder = std::nullopt;
};

/// Dense output over the video rows.
struct DenseSums {
  double norm = 0.0, absolute = 0.0;   // root of sum O^2, sum |O|
  double lowest = 0.0, highest = 0.0;  // extremes of O
};

struct MaskSweep {
  DenseSums dense;
  std::vector<std::vector<MaskEffect>> effects;  // [family][cut]
};

/// `lse` is sweep_logits(...).lse of the same stripes; `parents` [partition][atom] -> region. Rows whose kept mass is
/// below 1e-100 or whose dropped mass is below 1e-14 are computed again with their own maximum, so that no ratio of
/// vanishing numbers and no difference of equal ones is taken. Memory: O(tokens * head_dim) a thread and O(tokens) a
/// mask. The result does not depend on the number of threads.
MaskSweep sweep_masks(const Stripes& stripes, const LogSums& lse, std::span<const MaskFamily> families,
                      std::span<const std::vector<Index>> parents, int threads, const Progress& progress = {});

}  // namespace draft
