#pragma once
// The pooled remainder's part of the second sweep: one thread's chunk of rows, from the logits' pass to a row's output
// under a mask. Rows without trouble cost O(regions); those whose numbers would vanish are computed again.

#include <span>

#include "reference/bounds/remainder.hpp"

namespace draft {

/// One row under one mask.
struct RemainderRow {
  double probs_error;         // ||P_u - P'_u||_2
  Eigen::RowVectorXd output;  // O'_u
  Eigen::RowVectorXd error;   // O_u - O'_u
  Eigen::RowVectorXd probs;   // P'_u, [tokens] in region order, if it was asked for
  RemainderBounds bounds;
};

/// What it is made from.
struct RemainderPlace {
  Index row;   // in the chunk
  Index atom;  // the row's
  std::size_t partition;
  const std::vector<Index>* parent;  // column atom -> region
  const CoarseRegions* regions;
  const std::vector<Index>* dropped;  // regions, ascending
  double kept_mass, kept_square;      // sums of P and P^2 over kept columns, text too
  double dropped_mass;
  Eigen::RowVectorXd kept_output;  // sum of P_c V_c over kept columns
  Eigen::RowVectorXd lost_output;  // sum over dropped regions of |R_j| e^(z_j) mean V_j
  Eigen::RowVectorXd dense;        // O_u
  bool with_probs;
};

class RemainderSweep {
 public:
  RemainderSweep(const Stripes& stripes, const LogSums& lse) : stripes_(stripes), lse_(lse) {}

  /// A chunk of rows begins.
  void start(const Run& rows);
  /// The logarithms of P of a segment of columns of one of its rows, `row` in the chunk, and P itself of an atom.
  void add_logs(Index row, const Run& columns, const Matrix& logs);
  void add_probs(Index row, Index atom, double mass, double centred);
  /// All columns are through: sums by region, for each partition that has `regions`; the others' may be null.
  void finish(std::span<const std::vector<Index>> parents, std::span<const CoarseRegions* const> regions);

  /// Sum over `columns` of |R_j| e^(z_j) mean V_j, for rows [top, top + height) of the chunk.
  [[nodiscard]] Matrix product(std::size_t partition, const CoarseRegions& regions, const std::vector<Index>& columns,
                               Index top, Index height) const;
  [[nodiscard]] RemainderRow row(const RemainderPlace& place);

 private:
  void by_own_softmax(const RemainderPlace& place, RemainderRow& out);
  void by_small_difference(const RemainderPlace& place, RemainderRow& out);
  [[nodiscard]] Eigen::RowVectorXd logs_of(Index row);
  [[nodiscard]] bool is_dropped(const RemainderPlace& place, Index atom) const;

  const Stripes& stripes_;
  const LogSums& lse_;
  Run rows_{};
  AtomRows atoms_;
  std::vector<RegionRows> regions_;  // [partition]
  Matrix logits_;
};

}  // namespace draft
