#pragma once
// One query row's softmax over some columns only, with its own maximum: the definition, for rows whose part of the
// dense mass in those columns is too small for its squares, or for itself.

#include <functional>

#include "reference/stripes.hpp"

namespace draft {

struct MaskedRow {
  bool keeps;                 // whether there is a column at all; all below is zero if there is none
  Eigen::RowVectorXd probs;   // the softmax, 0 in other columns, [tokens] in region order
  double probs_square;        // sum of its squares
  Eigen::RowVectorXd output;  // its product with V, [head_dim]
};

/// `logits` are a row of S, unscaled, [1, tokens] in region order; kept(column atom) names the columns.
/// O(tokens * head_dim).
MaskedRow masked_row(const Stripes& stripes, const Matrix& logits, const std::function<bool(Index)>& kept);

}  // namespace draft
