#pragma once
// The cuBLAS handle that kernels may use.

struct cublasContext;

namespace draft::gpu {

/// A cuBLAS handle. One thread at a time; creating it allocates device memory, using it does not.
class Blas {
 public:
  Blas();
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;
  [[nodiscard]] cublasContext* handle() const { return handle_; }

 private:
  cublasContext* handle_ = nullptr;
};

}  // namespace draft::gpu
