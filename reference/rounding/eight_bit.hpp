#pragma once
// The errors of an attention kernel that computes with 8-bit numbers: what KernelTruth allows under
// Arithmetic::eight_bit. For each head such a kernel does this:
//
//   Q     INT8, one step for each token: sq = max_c |q_c| / 127, to nearest.
//   K     minus a vector m (about the mean of all keys; softmax does not see it, the lse gets scale <q, m> back), then
//         INT8 with one step for each block of keys: sk = max |k - m| / 127. A text block has as many tokens as a
//         region that no edge cuts. Pooled rows: one step for 128 consecutive regions.
//   P     coded_weight(x - shift + 8.125), x in base 2: about 2^(x - shift + 8.125) in E4M3. `shift` is the row's
//         running maximum, or up to 0.6875 less.
//   sums  of these P. On average both are kCodedMean too large: O is not, and the lse gets ln kCodedMean less.
//   V     E4M3 of v / 2^e, with one e for the head: value_exponent(). Pooled rows too.
//   P V   and the row sums are added 32 keys at a time, in order: the 32 products and the accumulator are truncated
//         toward zero to multiples of 2^(E - 13), E = floor(log2(the largest of them)). After every 8 blocks, of 128
//         keys at most, the accumulators are added to fp32 and begin at 0.
//   O     rounded once to the element type. Everything else is fp32.
//
// The error of a row of O, with normalised P, and p = P relative to the row's largest:
//
//   logits   Rounding errors are uniform and independent. Those of q_u and k_j give the logit, in nats, the variance
//            s^2 = scale^2 (sq^2/12 |k_j - m|^2 + sk^2/12 |q_u|^2 + head_dim sq^2 sk^2 / 144), and at most
//            D = scale (sq/2 |k_j - m|_1 + sk/2 |q_u|_1 + head_dim sq sk / 4). The error of O is the sum of
//            P_j (e^x - 1) (v_j - o): to first order numerator and denominator cancel but for v_j - o. Its square is
//            the sum of P_j^2 (e^(s^2) - 1) |v_j - o|^2 on average.
//   P        likewise. A coded weight over its mean, kCodedMean 2^x, is r = (1 + f) 2^-f 2^d / kCodedMean, where d is
//            what rounding to eighths moved, uniform to 1/16, and f one of eight eighths. r is between 0.9202 and
//            1.0643; the mean of (r - 1)^2 is 9.87e-4: 3.6e-4 of f and (ln 2 / 8)^2 / 12 = 6.3e-4 of d.
//   lost     Below p = 2^-14.125 codes are less than 8, and weights too small: p = 2^-14.625 loses a third, and
//            from 2^(1/16 - 15.125) on all is lost. That is known where p is: lost_share() of p, of a p that is smaller
//            by six sigma of its logit less the largest one. The same share of p is a part of P's standard deviation.
//   draws    Errors are not independent where keys are alike or correlate with values. So the errors of logits and P
//            are also computed for three kernels: m the mean of all keys, of every other key, and of the rest;
//            shift 0, 0.34 and 0.68 below the maximum. Their mean square stands in for the above where it is larger.
//            What is lost is kept apart, and so is what changes if sums are truncated as the accumulators are, for O
//            and for the lse.
//   channels INT8's errors are not independent either where a key is nearly constant over channels: e, in all of them,
//            moves a logit by scale e |sum_c q_uc|, sk / 2 at most for e, where independent ones give about |q_u|. e
//            is measured: the mean over channels of the error, at the worst of 8 levels added to the key. q likewise.
//   V        is known: |P (round(V) - V)|.
//   sums     the largest in the draws: O's and the row sums' errors are not independent. At most: an addend loses less
//            than 2^-13 of the accumulator or of the largest product, which are no more than the sum of P_j |v_j| so
//            far; with 33 addends a step, a key's P_j |v_j| counts 33 * 2^-13 for each step that remains until fp32,
//            its own included. That is 2^-3 for the first of 32 steps and 2^-4 on average over equal keys. Numbers of
//            few bits lose less: of equal p, 512 keys' row sums lose nothing.
//   O        half of a floating-point format's spacing is between u |o| and u |o| / 2, u of the element type, the mean
//            of its square 0.54 u^2; of an error of at most that it is a third.
//
// row_expected   the root of the sum of these squares.
// row_tolerance  six times the part that is random (the largest of the draws in place of their mean; errors that all
//                channels share, the same for a block's keys, to four sigma where larger), 1.25 of V's part, which is
//                known, twice the sums' largest of the draws (as if they kept a bit less), and 2 u |O|. A uniform error
//                is at most 1.7 of its sigma and a sum of many is nearly normal: 6 sigma are not met once in 10^8 rows,
//                and there is room where the draws missed a correlation. Where s is large an error of 6 s changes a
//                weight by e^(6s) - 1 and not 6 s: it is scaled by their ratio. To it comes what is lost: the sum of
//                lost P_j (|v_j| + |o|) over what is left of the row.
// o_bound        no more than D, r, E4M3's 2^-4 for V and so on allow; sk 1.25 times as large: m may be of a sample.
// lse_bound      six sigma of the sum of P_j times the errors of logits and P, as above; or six times the error in the
//                worst of the draws and of six more shifts (many equal p round alike); or 1.8 times the sum of P_j s (a
//                single channel's rounding that all keys share is at most 1.7 sigma); or what all channels and keys
//                share (sk 1.25 times as large) and three sigma; whichever is largest. Twice what the draws' sums lose
//                and 2^-9; what is lost of P; fp32. Never above what D, r and the sums allow.
// All are finite: an output is a mean of values, so no tolerance exceeds the largest |v_j| and |o| together.

#include <vector>

#include "reference/rounding/e4m3.hpp"
#include "reference/rounding/kernel_error.hpp"

namespace draft {

/// e of V's scale 2^e: floor(log2(root mean square)), or floor(log2(max |v|)) - 7 where max |v| > 448 * 2^e. 0 if V is
/// 0.
int value_exponent(const Matrix& v);

/// The sizes of the blocks of consecutive keys that share a step, in region order: regions, then text blocks.
std::vector<Index> key_blocks(const Partition& partition, Index region_tokens);
inline constexpr Index kPooledTile = 128;  // pooled rows of as many regions share a step

/// INT8's step for numbers of which `largest` is the largest absolute one.
inline double int8_step(double largest) { return largest / 127.0; }

/// What a block row attends to.
struct EightBitColumns {
  std::vector<Index> kept;                // tokens, in region order
  std::vector<Index> dropped;             // regions whose pooled rows take part
  const PooledRows* remainder = nullptr;  // null: none
  Vector terms;                           // ln |R_j| of the dropped, added to their logits
};

/// One head as such a kernel has it.
class EightBitHead {
 public:
  /// `region_tokens`: of a region that no edge cuts.
  EightBitHead(const Stripes& stripes, Index region_tokens);

  /// Sets o_bound, row_tolerance, lse_bound and row_expected of rows whose o and lse are set. `q` [rows, head_dim],
  /// unscaled; `p` [rows, kept and dropped] relative to each row's largest, and its row sums.
  void bound(const Matrix& q, const EightBitColumns& columns, const Matrix& p, const Vector& total,
             KernelFormat element, RowsTruth& truth) const;

  static constexpr int kDraws = 3;

 private:
  using Floats = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  /// Keys and values after rounding. INT8 numbers and their products are exact in float.
  struct Keys {
    Floats k[kDraws];     // INT8, [keys, head_dim]
    Vector step[kDraws];  // of each key
    Vector length, sum;   // |k - m| in the 2-norm and the 1-norm
    Vector common;        // what all channels of k's rounding error may share
    Vector drift;         // |sum of k - m over channels|
    Floats v, v_error;    // rounded, and that minus the exact one, in units of 2^e
    Vector v_length;      // |v|, rounded, in these units
    [[nodiscard]] Keys rows(const std::vector<Index>& chosen) const;
    void append(const Keys& other);
  };
  struct Place {
    Index block, index;  // index: within the block
  };
  struct Work;
  [[nodiscard]] Keys rounded(const Matrix& k, const Matrix& v, const std::vector<Index>& blocks) const;
  void weigh(const Matrix& q, const Matrix& p, const Vector& total, Work& work) const;
  void draw(int which, Work& work, const Vector& terms, const RowsTruth& truth) const;
  void finish(const Work& work, KernelFormat element, RowsTruth& truth) const;

  double scale_;
  Vector mean_[kDraws];
  int exponent_;  // of V's scale
  Keys keys_;     // region order
  std::vector<Place> places_;
};

}  // namespace draft
