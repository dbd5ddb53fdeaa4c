#pragma once
// The order in which a head's n x n logits are computed without storing them all: chunks of about 128 query rows, cut
// into segments of columns that fit into the second-level cache.

#include <vector>

#include "reference/regions.hpp"

namespace draft {

/// Consecutive atoms (regions of the finest partition) and their tokens in region order.
struct Run {
  Index first_atom, last_atom;  // [first, last)
  Index first, size;            // tokens, in region order
};

/// One head with its tokens in region order of `atoms`, cut into chunks of rows and segments of columns.
/// All text tokens together are one more column atom, of index atoms.regions(), if there are any.
struct Stripes {
  Stripes(const Problem& problem, const Partition& atoms);

  [[nodiscard]] Index atom_count() const { return atoms.regions(); }  // video
  [[nodiscard]] Index column_atoms() const { return atoms.regions() + (grid.text > 0 ? 1 : 0); }
  [[nodiscard]] Index atom_first(Index atom) const { return atoms.offset(atom); }
  [[nodiscard]] Index atom_size(Index atom) const { return atom < atoms.regions() ? atoms.size(atom) : grid.text; }

  /// S, unscaled, of these rows and columns, given by first position in region order and count: [rows, columns];
  /// -infinity where a causal grid lets the query not attend to the key. By one matrix product if its rounding changes
  /// no scaled logit by more than 1e-9; else by careful_products(), so that equal logits come out equal however large
  /// they are. The same call gives the same bits.
  void logits(Index first_row, Index row_count, Index first_column, Index column_count, Matrix& out) const;

  Grid grid;
  Partition atoms;
  double scale;
  Matrix q, k, v;            // [tokens, head_dim], region order, text last
  std::vector<Run> rows;     // video rows only
  std::vector<Run> columns;  // video, then text
  bool careful;              // whether logits() uses careful_products()
};

}  // namespace draft
