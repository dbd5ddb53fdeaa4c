#pragma once
// One query row's softmax over some columns alone, with the maximum of those columns. For rows with so little dense
// mass in these columns that it, or its squares, would underflow.

#include <functional>

#include "reference/stripes.hpp"

namespace draft {

struct MaskedRow {
  bool keeps;                 // whether there is any such column; if not, everything below is 0
  Eigen::RowVectorXd probs;   // the softmax, 0 in other columns, [tokens] in region order
  double probs_square;        // sum of its squares
  Eigen::RowVectorXd output;  // its product with V, [head_dim]
};

/// `logits` is a row of S, unscaled, [1, tokens] in region order, -infinity in columns that count nowhere; kept(column
/// atom) tells whether a column atom counts. O(tokens * head_dim).
MaskedRow masked_row(const Stripes& stripes, const Matrix& logits, const std::function<bool(Index)>& kept);

}  // namespace draft
