#pragma once
// How far attention with a pooled remainder (reference/attention.hpp) is from dense attention: what one row under one
// mask gives, and two bounds that hold for every mask.
//
// Row u has dense probabilities P_c, and in a dropped block j logs z_c = log P_c with mean z_j. The remainder replaces
// z_c by z_j in dropped blocks: P'_c = P_c / W in kept columns and P'_c = e^(z_j) / W in dropped ones, where
// W = sum_kept P_c + sum_dropped |R_j| e^(z_j). mu_j is the row's mass in block j, mu its sum over dropped blocks, and
// d_c = z_c - z_j, which is the scaled logit less its mean in the block.
//
// Bound of the error.
// 1. By Jensen's inequality sum_j P_c >= |R_j| e^(z_j). So W <= 1, and P'_c >= P_c in kept columns.
// 2. Both rows sum to 1. So ||P - P'||_1 = 2 t with t = sum (P_c - P'_c)_+, to which by 1 only dropped columns add. In
//    those P'_c = P_c e^(-d_c) / W >= P_c e^(-d_c), so that t <= sum_dropped P_c (1 - e^(-d_c))_+.
// 3. Let e_j = max d_c over the block, which is >= 0. Then t <= b = sum_dropped mu_j (1 - e^(-e_j)) <= mu: the
// remainder
//    is never worse than what Theorem 3.5's step 1 says of the mask alone, ||P - P^M||_1 = 2 mu.
// 4. The positive and the negative part of P - P' have disjoint columns and 1-norm t each, and a 2-norm is at most the
//    1-norm. So ||P_u - P'_u||_2^2 <= 2 t^2, ||P - P'||_F <= sqrt(2 sum_u b_u^2), and for the output
//    ||O_u - O'_u||_2 <= 2 b_u max_v ||V_v||_2, as in Theorem 3.5.
// 5. From radii r_j = max_c ||K_c - mean K_j||: d_c = scale <Q_u, K_c - mean K_j> <= scale ||Q_u|| r_j by
//    Cauchy-Schwarz, so that e_j may be replaced by it.
// 6. P' is even in a dropped block and d_c sums to 0 there, so that the divergence from P' to P is exactly
//    sum P'_c log(P'_c / P_c) = log(1 / W). Hence t <= g = the smaller of sqrt(log(1 / W) / 2) (Pinsker) and sqrt(1 -
//    W) (Bretagnolle and Huber). Where 3 asks for the block's largest logit, this asks for its mean weight alone: 1 - W
//    = sum_dropped mu_j - |R_j| e^(z_j).
//
// Bound of the recall, our own. |d_c| <= x_j = scale ||Q_u|| r_j and the d_c of a block sum to 0. exp lies below its
// chord on [-x, x], e^d <= cosh x + d sinh(x) / x, so that sum_j e^(d_c) <= |R_j| cosh x_j. With 1 the kept mass is at
// least A = text + sum_kept |R_j| e^(z_j), the dropped mass at most B = sum_dropped |R_j| e^(z_j) cosh x_j, and the
// recall at least A / (A + B). In this ratio log-sum-exp cancels: mean keys, radii and the text's logits give it,
// without the n^2 logits.

#include <vector>

#include "reference/bounds/logit_sweep.hpp"

namespace draft {

/// What the remainder and its bounds need of a partition.
struct CoarseRegions {
  Vector sizes;   // in tokens, [regions]
  Matrix values;  // mean V, [regions, head_dim]
  Vector radii;   // about the mean key, [regions]
};
CoarseRegions coarse_regions(const Problem& problem, const Partition& partition);

/// Some rows' dense attention by region of one partition, [rows, regions] each.
struct RegionRows {
  Matrix mean;     // z_j
  Matrix rise;     // e_j
  Matrix weight;   // |R_j| e^(z_j)
  Matrix mass;     // mu_j
  Matrix centred;  // sum of (P_c - mu_j / |R_j|)^2
};
/// The same by atom of the stripes, from which that is made, [rows, atoms] each.
struct AtomRows {
  Matrix mass;
  Matrix centred;  // about the atom's own mean
  Matrix log_sum;  // of z_c
  Matrix log_max;
};
RegionRows by_region(const AtomRows& atoms, const Stripes& stripes, const std::vector<Index>& parent,
                     const CoarseRegions& regions);

/// What the bounds say of one row under one mask.
struct RemainderBounds {
  double bound;         // b_u
  double bound_radii;   // b_u with e_j from radii
  double bound_gap;     // g_u
  double recall_bound;  // A / (A + B)
};
/// `dropped`: regions; `reach` = scale ||Q_u||.
RemainderBounds remainder_bounds(const RegionRows& rows, Index row, const CoarseRegions& regions,
                                 const std::vector<Index>& dropped, double text_mass, double reach);

/// P - P' of one row under one mask, of `rows` in units of `unit`: their masses divided by it, their centred squares by
/// its square. So a row that drops next to nothing can be given with P relative to that.
struct RemainderError {
  double total;        // W
  double gap;          // sum_dropped mu_j - |R_j| e^(z_j), in units; 1 - W is `unit` times that
  double probs_error;  // ||P_u - P'_u||_2
};
/// `kept_mass`, `kept_square`: sums of P_c and P_c^2 over kept columns, text too.
RemainderError remainder_error(const RegionRows& rows, Index row, const CoarseRegions& regions,
                               const std::vector<Index>& dropped, double unit, double kept_mass, double kept_square);

}  // namespace draft
