#pragma once
// Dot products as if in twice the precision.

#include "reference/problem.hpp"

namespace draft {

/// out[i] = a . b_i for `count` contiguous rows b_i of `dim` numbers, with an error of little more than one rounding
/// (Ogita, Rump and Oishi, "Accurate sum and dot product", 2005: Dot2). Equal rows give equal bits at every i, which a
/// matrix product does not promise. About ten times as slow as a matrix product.
void careful_products(const double* a, const double* b, Index dim, Index count, double* out);

}  // namespace draft
