#pragma once
// cuBLAS, loaded at its first use, and its status codes as exceptions.

#include <cublas_v2.h>

#include <source_location>

#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {

/// cuBLAS's functions, loaded with dlopen. A program that is linked to cuBLAS loads hundreds of megabytes at each start
/// (0.15 s), and most runs never call it.
struct BlasLibrary {
  decltype(&cublasCreate_v2) create;
  decltype(&cublasDestroy_v2) destroy;
  decltype(&cublasSetMathMode) set_math_mode;
  decltype(&cublasSetStream_v2) set_stream;
  decltype(&cublasGemmEx_64) gemm_ex_64;
  decltype(&cublasGetStatusString) status_string;
};

/// Loads the library on the first call; throws Error if the dynamic linker does not find it.
const BlasLibrary& blas_library();

/// Throws Error unless `status` is success. `call` is what failed.
inline void check_blas(cublasStatus_t status, const char* call,
                       std::source_location where = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(call, blas_library().status_string(status), where);
}

}  // namespace draft::gpu
