#include "kernels/blas.hpp"

#include "kernels/attention.hpp"

namespace draft::gpu {

Blas::Blas() {
  check_blas(cublasCreate(&handle_), "cublasCreate");
  check_blas(cublasSetMathMode(handle_, CUBLAS_DEFAULT_MATH), "cublasSetMathMode");  // fp32 stays fp32
}

Blas::~Blas() {
  if (handle_ != nullptr) (void)cublasDestroy(handle_);
}

}  // namespace draft::gpu
