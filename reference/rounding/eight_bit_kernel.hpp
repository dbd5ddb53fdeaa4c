#pragma once
// A kernel of 8-bit numbers simulated on the CPU: what eight_bit.hpp describes, step by step, with float64 in place of
// fp32. For tests of its tolerances, and to see what each kind of rounding costs.

#include "reference/rounding/eight_bit.hpp"

namespace draft {

/// What is rounded and how, and what a wrong kernel would do.
struct EightBitChoices {
  enum class Operands { exact, int8, e4m3 };     // E4M3: the largest becomes 448, steps for the same numbers as INT8's
  enum class Weights { exact, coded, nearest };  // nearest: 2^x to the nearest number of E4M3

  KernelFormat element = kBfloat16Format;  // of O
  Operands queries_and_keys = Operands::int8;
  Weights weights = Weights::coded;
  bool rounds_v = true;
  bool rounds_sums = true;  // the addends of 32 keys and the accumulator are truncated
  bool rounds_o = true;
  double slack = kWeightSlack;  // octaves; the running maximum is raised only if it grew by more
  Vector mean = {};             // m; empty: the mean of all keys

  Index tiles_in_sums = 8;        // before they are added to fp32
  int p_bits = 4;                 // significant bits of P, at most E4M3's 4
  double offset = kWeightOffset;  // log2 of the weight of a logit that is the shift
  Index wrong_block = -1;         // of keys, in the order of key_blocks(); -1: none
  double wrong_step = 1.0;        // its step in place of the right one, relative
  bool forgets_mean = false;      // in the lse
};

class EightBitKernel {
 public:
  /// Throws std::invalid_argument on a problem or region that is not valid.
  EightBitKernel(const Problem& problem, RegionSize region, EightBitChoices choices = {});

  [[nodiscard]] const Partition& partition() const { return partition_; }
  /// The rows of one block in the order of KernelTruth's; blocks and remainder as there.
  [[nodiscard]] Output rows(const BlockMask& mask, Index block, const PooledRows* remainder = nullptr) const;

 private:
  struct Rows;
  [[nodiscard]] Matrix quantised(const Matrix& rows) const;
  [[nodiscard]] Matrix rounded_v(const Matrix& v) const;
  [[nodiscard]] double weight(double x) const;
  /// P V and the sums of P of at most 32 keys onto `sums`.
  void add_products(const Matrix& p, const Matrix& v, Matrix& sums) const;
  void attend_block(const Matrix& k, const Matrix& v, const Vector& terms, Rows& rows) const;

  Partition partition_;
  Index region_tokens_;
  EightBitChoices choices_;
  double scale_;
  int exponent_;
  std::vector<Index> blocks_;
  Vector mean_;
  Matrix exact_q_, q_, k_, v_;  // rounded but for the first; region order, k minus m
};

}  // namespace draft
