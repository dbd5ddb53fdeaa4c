// To be compiled without contraction (-ffp-contract=off): a sum that swallows its product leaves no error to recover.
#include "reference/careful_product.hpp"

#include <cmath>

namespace draft {
namespace {

/// Several at a time: each is a chain of dependent additions.
template <int kCount>
void products(const double* a, const double* b, Index dim, double* out) {
  double sum[kCount] = {}, lost[kCount] = {};
  for (Index d = 0; d < dim; ++d) {
    for (int i = 0; i < kCount; ++i) {
      const double product = a[d] * b[i * dim + d], risen = sum[i] + product, part = risen - sum[i];
      lost[i] += ((sum[i] - (risen - part)) + (product - part)) + std::fma(a[d], b[i * dim + d], -product);
      sum[i] = risen;
    }
  }
  for (int i = 0; i < kCount; ++i) out[i] = sum[i] + lost[i];
}

}  // namespace

void careful_products(const double* a, const double* b, Index dim, Index count, double* out) {
  constexpr int kAtOnce = 8;
  Index i = 0;
  for (; i + kAtOnce <= count; i += kAtOnce) products<kAtOnce>(a, b + i * dim, dim, out + i);
  for (; i < count; ++i) products<1>(a, b + i * dim, dim, out + i);
}

}  // namespace draft
