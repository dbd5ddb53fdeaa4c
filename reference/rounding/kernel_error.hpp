#pragma once
// How far a kernel's output may be from attend() under the same mask and the same inputs, by rounding alone; with a
// pooled remainder the pooled rows, rounded as the kernel gets them, are inputs too. A kernel
// is assumed to round P once to its element type before P V, and O once; everything else is fp32. Or to compute with
// 8-bit numbers: eight_bit.hpp says what they round and what that may cost.

#include <cmath>
#include <memory>
#include <optional>

#include "reference/attention.hpp"
#include "reference/stripes.hpp"

namespace draft {

/// The element type: significant bits, and the exponent of the smallest positive number.
struct KernelFormat {
  int bits;
  int lowest;
  /// The largest relative error of one rounding of a normal number: half the spacing above 1.
  [[nodiscard]] double unit_roundoff() const { return std::ldexp(1.0, -bits); }
};
inline constexpr KernelFormat kBfloat16Format{8, -133};
inline constexpr KernelFormat kFloat16Format{11, -24};

/// What a kernel multiplies: numbers of its element type, or INT8 and E4M3 as in eight_bit.hpp. O has the element type
/// in both.
enum class Arithmetic { element, eight_bit };

/// The rows of one block row of attend(), and the errors that rounding may cause in them. For Arithmetic::element, with
/// u the element type's unit roundoff and e = 2^-24 fp32's:
///
/// o_bound        the worst case, for each element: P is rounded once (u P|V|), O once (u |O|), a logit is a sum of
///                head_dim products (relative error of its p up to 4 head_dim e |logit|), sums have n terms (n e).
/// row_tolerance  the expected size, for each row in the L2 norm: three times the largest of ||(round(P) - P) V||,
///                computed for three scalings of P since a kernel's running maximum scales P; a share more for fp32;
///                and 2 u ||O|| for O's own rounding and for a P whose entries are all equal and round alike.
/// No correct kernel exceeds the first. The second is about sqrt(n) times smaller and finds errors that the first lets
/// pass. For Arithmetic::eight_bit: see eight_bit.hpp; there the sizes of errors are expected well enough for
/// row_expected, which holds all rows together to much less than each alone.
struct RowsTruth {
  std::vector<Index> tokens;  // [rows], original order
  Matrix o;                   // [rows, head_dim]
  Vector lse;                 // [rows]
  Matrix o_bound;             // [rows, head_dim]
  Vector row_tolerance;       // [rows]
  Vector lse_bound;           // [rows]
  Vector row_expected;        // root mean square of ||O'_u - O_u||, [rows]; empty for Arithmetic::element
};

class EightBitHead;

/// Computes RowsTruth for one head and region size, for any mask and block row.
class KernelTruth {
 public:
  /// Throws std::invalid_argument on a problem or region that is not valid.
  KernelTruth(const Problem& problem, RegionSize region, KernelFormat format,
              Arithmetic arithmetic = Arithmetic::element);

  [[nodiscard]] const Partition& partition() const { return stripes_.atoms; }
  /// Number of blocks: the regions, then text blocks of as many tokens as a region that no edge cuts.
  [[nodiscard]] Index blocks() const { return partition().regions() + text_blocks_; }
  /// With `remainder` in place of the blocks that the block row drops, as attend() has it; null: none. Memory: O(rows
  /// of the block * kept tokens). Throws std::invalid_argument on a mask or a remainder of other regions.
  [[nodiscard]] RowsTruth rows(const BlockMask& mask, Index block, const PooledRows* remainder = nullptr) const;

 private:
  Index region_tokens_, text_blocks_;
  KernelFormat format_;
  Stripes stripes_;
  Matrix absolute_v_;  // |V| [tokens, head_dim], region order
  double longest_k_;
  std::shared_ptr<const EightBitHead> eight_bit_;  // null for Arithmetic::element
};

/// A kernel's errors over all rows that were added. A ratio above 1 is a failure, and so is NaN.
///
/// Where rows have an expected error, the squares of all errors together are held to those that are expected. Rows'
/// errors hang on few numbers at worst, so each square is about a chi-square of one degree of freedom; the sum of N
/// such is below N + 2 sqrt(18 N) + 36 but for e^-18 of cases (Laurent and Massart 2000, lemma 1). N is the count of
/// equal rows, (sum of squares)^2 / sum of fourth powers. The limit is never below 1.5^2 N, which holds from N = 90 on:
/// all rows share the errors of K and V, and the expectation itself is a model. It finds a mistake that is about as
/// large as rounding in every row of a head, so one KernelError should be given one head.
struct KernelError {
  std::optional<double> rel_l2() const;      // ||O' - O|| / ||O||; none if O is 0 everywhere
  double max_abs = 0.0;                      // |O' - O|
  std::optional<double> worst_block_rel_l2;  // ||O' - O|| / ||O|| of the worst block row whose O is not 0
  Index worst_block = -1;                    // -1: there is none
  double element_over_bound = 0.0;           // largest |O' - O| / o_bound
  double row_over_tolerance = 0.0;           // largest ||O'_u - O_u|| / row_tolerance
  double lse_max_abs = 0.0;
  double lse_over_bound = 0.0;
  Index rows = 0;

  /// Adds the kernel's rows of one block: `o` [rows, head_dim] and `lse` [rows] in the order of truth.tokens. Rows that
  /// keep nothing must be exactly 0 and -inf.
  void add(const RowsTruth& truth, Index block, const Matrix& o, const Vector& lse);
  /// Root of all square errors over the largest that is allowed given what is expected; 0 if no row has an expectation.
  [[nodiscard]] double total_over_expected() const;
  /// Also false if any number was NaN, or nothing was added.
  [[nodiscard]] bool fine() const {
    return rows > 0 && element_over_bound <= 1.0 && row_over_tolerance <= 1.0 && lse_over_bound <= 1.0 &&
           total_over_expected() <= 1.0;
  }

 private:
  double square_error_ = 0.0, square_ = 0.0;
  // Over the rows with an expectation: square errors, expected ones, and the squares of these.
  double found_ = 0.0, expected_ = 0.0, expected_square_ = 0.0;
};

}  // namespace draft
