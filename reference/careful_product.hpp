#pragma once
// Dot products as if in twice the precision.

#include "reference/problem.hpp"

namespace draft {

/// out[i] = a . b_i for `count` rows b_i of `dim` numbers side by side, rounded once and a little more (Ogita, Rump and
/// Oishi, "Accurate sum and dot product", 2005: Dot2). Equal rows give equal bits wherever they stand, which a matrix
/// product does not promise. Some ten times as slow as one.
void careful_products(const double* a, const double* b, Index dim, Index count, double* out);

}  // namespace draft
