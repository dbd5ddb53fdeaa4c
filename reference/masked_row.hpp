#pragma once
// One query row's softmax over the kept columns only, with its own maximum: the definition, for rows
// whose kept mass is too small a part of the dense mass to be had by division.

#include <functional>

#include "reference/stripes.hpp"

namespace draft {

struct MaskedRow {
  Eigen::RowVectorXd output;  // O^M_u, [head_dim]; zero if the row keeps nothing
  double probs_square;        // sum of (P^M_uv)^2; zero if the row keeps nothing
};

/// `row` in region order; kept(row atom, column atom) tells what the row attends to. O(tokens * head_dim).
MaskedRow masked_row(const Stripes& stripes, Index row, const std::function<bool(Index, Index)>& kept);

}  // namespace draft
