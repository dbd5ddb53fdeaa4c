#include "experiments/timing/projection.hpp"

namespace draft {

Projection project(const TransformerShape& model, double matmul_tflops, double dense_ms, double sparse_ms,
                   double draft_ms) {
  const FlopParts flops = dense_flops(model, Counting::architecture);
  const double other_s = (flops.total() - flops.attention) * 1e3 / matmul_tflops;  // PFLOPs by TFLOP/s
  const double calls = static_cast<double>(model.layers * model.steps * model.passes);
  const double sparse = sparse_share(model, DenseRule::first_quarter);
  const double dense_call_s = dense_ms * 1e-3, sparse_call_s = (sparse_ms + draft_ms) * 1e-3;
  return {other_s + calls * dense_call_s, other_s + calls * ((1 - sparse) * dense_call_s + sparse * sparse_call_s),
          other_s, calls, sparse};
}

}  // namespace draft
