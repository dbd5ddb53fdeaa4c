#pragma once
// The rate of one large bfloat16 product by cuBLAS. Records have it next to a kernel's rate, as a measure of what the
// machine can do. For builds with kernels.

#include <memory>

#include "harness/timing/gpu_timing.hpp"

namespace draft {

/// C = A B^T, 8192 x 8192 each, bfloat16, sums in fp32, random normal numbers.
class MatmulMark {
 public:
  static constexpr int kSide = 8192;
  /// Allocates on this thread's device. Throws gpu::Error.
  MatmulMark();
  ~MatmulMark();

  /// Valid as long as this object.
  [[nodiscard]] TimedWork work() const;
  /// TFLOP/s of one product that takes `milliseconds`.
  static double tflops(double milliseconds) { return 2.0 * kSide * kSide * kSide / milliseconds * 1e-9; }

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace draft
