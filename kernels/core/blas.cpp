#include "kernels/core/blas.hpp"

#include <dlfcn.h>

#include "kernels/core/blas_library.hpp"

namespace draft::gpu {
namespace {

// The soname: the file that the linker would have recorded for this version of cuBLAS.
const std::string& library_name() {
  static const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
  return name;
}

template <typename Function>
void find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  if (function == nullptr) fail(library_name(), std::string("wanted the function ") + name + ", found none");
}

BlasLibrary load() {
  // Never closed: its functions are used until the process ends.
  void* const library = dlopen(library_name().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fail(library_name(),
         std::string(dlerror()) + " (cuBLAS is part of the CUDA Toolkit: add its folder to LD_LIBRARY_PATH)");
  }
  BlasLibrary blas{};
  find(library, "cublasCreate_v2", blas.create);
  find(library, "cublasDestroy_v2", blas.destroy);
  find(library, "cublasSetMathMode", blas.set_math_mode);
  find(library, "cublasSetStream_v2", blas.set_stream);
  find(library, "cublasGemmEx_64", blas.gemm_ex_64);
  find(library, "cublasGetStatusString", blas.status_string);
  return blas;
}

}  // namespace

const BlasLibrary& blas_library() {
  static const BlasLibrary blas = load();
  return blas;
}

Blas::Blas() {
  check_blas(blas_library().create(&handle_), "cublasCreate");
  check_blas(blas_library().set_math_mode(handle_, CUBLAS_DEFAULT_MATH), "cublasSetMathMode");  // fp32 stays fp32
}

Blas::~Blas() {
  if (handle_ != nullptr) (void)blas_library().destroy(handle_);
}

}  // namespace draft::gpu
