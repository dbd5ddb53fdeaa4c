#pragma once
// First sweep over a head's logits: everything that depends on Q and K alone, for all partitions at once.

#include <array>
#include <functional>
#include <vector>

#include "reference/draft_mask.hpp"
#include "reference/stripes.hpp"

namespace draft {

/// Called with the number of query rows just finished; may come from any thread.
using Progress = std::function<void(Index)>;

/// A histogram of positive doubles with bins of relative width 1/256: a bin is the value's exponent and
/// its first eight fraction bits. quantile(p) is the upper edge of the bin that holds the ceil(p N)-th
/// smallest value, so it lies above the exact quantile by less than a 1/256th of it; zero stays zero.
class LogHistogram {
 public:
  LogHistogram() : counts_(kBins, 0) {}
  void add(double value) { add(value, 1); }
  void add(double value, std::uint64_t times);
  void add(const LogHistogram& other);
  [[nodiscard]] double quantile(double p) const;  // 0 < p <= 1; throws std::logic_error when empty

 private:
  static constexpr std::size_t kBins = std::size_t{1} << 19;  // 11 exponent and 8 fraction bits
  std::vector<std::uint64_t> counts_;
};

/// A pooled map for which sweep_logits() shall compute the histogram of |S_uv - S~_ij| (eq. 8).
struct DeviationRequest {
  Matrix pooled_logits;       // S~, unscaled, [regions, regions] of the partition below
  std::vector<Index> parent;  // atom -> region
};

/// log sum exp(scale S) of each row, in two parts. In one number the logarithm of the sum would be rounded away beside
/// a large logit, and P of several equal keys would come out wrong. P = exp(scale (S - highest) - rest).
struct LogSums {
  Vector highest;  // the largest S of the row, unscaled
  Vector rest;     // log sum exp(scale (S - highest)): from 0 to the log of the number of terms
  double scale = 0.0;

  [[nodiscard]] double operator[](Index row) const { return scale * highest[row] + rest[row]; }
  void resize(Index rows) {
    highest.resize(rows);
    rest.resize(rows);
  }
};

/// Statistics over blocks of atoms, rows and columns both video unless said otherwise.
/// S is unscaled (eq. 6); P is the dense softmax over video and text columns. On a causal grid what is of S holds for
/// blocks below the diagonal alone.
struct LogitStats {
  Matrix minimum, maximum;               // of S in each block, [atoms, atoms]
  Matrix mean;                           // of S in each block
  Matrix centred_square;                 // sum of (S - mean)^2 in each block
  Matrix mass;                           // sum of P in each block
  Vector text_mass;                      // sum of P over an atom's rows and the text columns, [atoms]
  LogSums lse;                           // log of sum_v exp(scale S_uv), all columns, [video] in region order
  std::vector<LogHistogram> deviations;  // one for each request
};

/// One pass over Q K^T. Memory: O(tokens * head_dim + atoms^2).
LogitStats sweep_logits(const Stripes& stripes, std::span<const DeviationRequest> requests, int threads,
                        const Progress& progress = {});

/// The same statistics over a coarser partition; `deviations` and `lse` stay empty.
LogitStats coarsened(const LogitStats& fine, const Partition& atoms, const std::vector<Index>& parent, Index regions);

}  // namespace draft
