#pragma once
// cuBLAS, loaded when it is first used, and its status codes as exceptions beside CUDA's own.

#include <cublas_v2.h>

#include <source_location>

#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {

/// cuBLAS's functions. A program that is linked to cuBLAS maps its libraries, hundreds of megabytes, at each start
/// (0.15 s); most runs never multiply with them.
struct BlasLibrary {
  decltype(&cublasCreate_v2) create;
  decltype(&cublasDestroy_v2) destroy;
  decltype(&cublasSetMathMode) set_math_mode;
  decltype(&cublasSetStream_v2) set_stream;
  decltype(&cublasGemmEx_64) gemm_ex_64;
  decltype(&cublasGetStatusString) status_string;
};

/// Loads the library on the first call, from where the dynamic linker finds it; throws Error if it does not.
const BlasLibrary& blas_library();

/// Throws Error unless `status` is success. `call` is what failed.
inline void check_blas(cublasStatus_t status, const char* call,
                       std::source_location where = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS) fail(call, blas_library().status_string(status), where);
}

}  // namespace draft::gpu
