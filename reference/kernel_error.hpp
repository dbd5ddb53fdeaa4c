#pragma once
// How far a kernel's output may be from attend() under the same mask and the same inputs: rounding and nothing
// else. A kernel is taken to round P once to its element type before P V, and O once; everything else is fp32.

#include <cmath>
#include <optional>

#include "reference/attention.hpp"
#include "reference/stripes.hpp"

namespace draft {

/// The element type: significant bits, and the exponent of the smallest positive number.
struct KernelFormat {
  int bits;
  int lowest;
  /// Half the spacing above 1: one rounding changes a normal number by at most this share.
  [[nodiscard]] double unit_roundoff() const { return std::ldexp(1.0, -bits); }
};
inline constexpr KernelFormat kBfloat16Format{8, -133};
inline constexpr KernelFormat kFloat16Format{11, -24};

/// Rows of attend() that share a block row, and what rounding can do to them. With u the element type's unit
/// roundoff and e = 2^-24 fp32's:
///
/// o_bound        the worst case, element by element: P is rounded once (u P|V|), O once (u |O|), a logit is a sum
///                of head_dim products (relative error of its p up to 4 head_dim e |logit|), sums have n terms (n e).
/// row_tolerance  what rounding does, by rows, in the L2 norm: three times the largest of ||(round(P) - P) V|| over
///                three scalings of P (a kernel's running maximum scales P), computed; more for fp32's part beside
///                it, and 2 u ||O||: O's own rounding, and that of a P whose entries are all alike.
/// The first never errs; the second sees errors that the first, at sqrt(n) the size, would let pass.
struct RowsTruth {
  std::vector<Index> tokens;  // [rows], original order
  Matrix o;                   // [rows, head_dim]
  Vector lse;                 // [rows]
  Matrix o_bound;             // [rows, head_dim]
  Vector row_tolerance;       // [rows]
  Vector lse_bound;           // [rows]
};

/// One head, prepared for the block rows of any mask of one region size.
class KernelTruth {
 public:
  /// Throws std::invalid_argument on a problem or region that is not valid.
  KernelTruth(const Problem& problem, RegionSize region, KernelFormat format);

  [[nodiscard]] const Partition& partition() const { return stripes_.atoms; }
  /// Regions, then blocks of as many text tokens as a region has that no edge cuts.
  [[nodiscard]] Index blocks() const { return partition().regions() + text_blocks_; }
  /// Memory: O(rows of the block * kept tokens). Throws std::invalid_argument on a mask of other regions.
  [[nodiscard]] RowsTruth rows(const BlockMask& mask, Index block) const;

 private:
  Index region_tokens_, text_blocks_;
  KernelFormat format_;
  Stripes stripes_;
  Matrix absolute_v_;  // |V| [tokens, head_dim], region order
  double longest_k_;
};

/// What a kernel got wrong, over all rows added. Ratios above 1 are failures, as is every NaN.
struct KernelError {
  std::optional<double> rel_l2() const;      // none where O is 0 throughout: then it would be relative to nothing
  double max_abs = 0.0;                      // |O' - O|
  std::optional<double> worst_block_rel_l2;  // ||O' - O|| / ||O|| of the worst block row whose O is not 0
  Index worst_block = -1;                    // -1 where there is none
  double element_over_bound = 0.0;           // largest |O' - O| / o_bound
  double row_over_tolerance = 0.0;           // largest ||O'_u - O_u|| / row_tolerance
  double lse_max_abs = 0.0;
  double lse_over_bound = 0.0;
  Index rows = 0;

  /// `o` [rows, head_dim] and `lse` [rows] as truth.tokens. Rows that keep nothing must be exactly 0 and -inf.
  void add(const RowsTruth& truth, Index block, const Matrix& o, const Vector& lse);
  /// False on a NaN, too.
  [[nodiscard]] bool fine() const {
    return rows > 0 && element_over_bound <= 1.0 && row_over_tolerance <= 1.0 && lse_over_bound <= 1.0;
  }

 private:
  double square_error_ = 0.0, square_ = 0.0;
};

}  // namespace draft
