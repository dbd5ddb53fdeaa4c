#pragma once
// What one attention call's time says about a whole video: the paper's end-to-end speed-up (Figure 4) from the FLOPs of
// its models and a measured rate.

#include "experiments/input/models.hpp"

namespace draft {

struct Projection {
  double dense_s = 0, sparse_s = 0;  // of one video
  double other_s = 0;                // all but attention, in either
  double calls = 0;                  // of attention
  double sparse_share = 0;           // of them, in sparse_s
  [[nodiscard]] double speedup() const { return dense_s / sparse_s; }
};

/// Everything but attention at the rate of a large matrix product, in TFLOP/s; attention as often as layers, steps and
/// passes say; the first quarter of the steps dense, the others sparse with the draft (pooling to lists) before each
/// call. Times of one call in ms.
Projection project(const TransformerShape& model, double matmul_tflops, double dense_ms, double sparse_ms,
                   double draft_ms);

}  // namespace draft
