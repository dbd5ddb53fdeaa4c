#pragma once
// cuBLAS's status codes as exceptions, beside CUDA's own.

#include <cublas_v2.h>

#include <source_location>

#include "kernels/cuda_check.hpp"

namespace draft::gpu {

/// Throws Error unless `status` is success. `call` is what failed.
inline void check_blas(cublasStatus_t status, const char* call,
                       std::source_location where = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(call, cublasGetStatusString(status), where);
}

}  // namespace draft::gpu
