#include "harness/timing/matmul_rate.hpp"

#include "harness/numbers/normal_rows.hpp"
#include "kernels/core/blas.hpp"
#include "kernels/core/blas_library.hpp"

namespace draft {
namespace {

gpu::DeviceBuffer<std::uint16_t> random_matrix(std::uint64_t stream) {
  const Index size = Index{MatmulMark::kSide} * MatmulMark::kSide;
  const std::vector<std::uint16_t> numbers = normal_rows(size, 1, stream, Element::bfloat16);
  return gpu::DeviceBuffer<std::uint16_t>(std::span<const std::uint16_t>(numbers));
}

}  // namespace

struct MatmulMark::State {
  gpu::Blas blas;
  gpu::DeviceBuffer<std::uint16_t> a = random_matrix(0), b = random_matrix(1), c{a.size()};
};

MatmulMark::MatmulMark() : state_(std::make_unique<State>()) {}
MatmulMark::~MatmulMark() = default;

TimedWork MatmulMark::work() const {
  return {"matrix product", [state = state_.get()](cudaStream_t stream) {
            const float one = 1.0F, zero = 0.0F;
            cublasContext* const handle = state->blas.handle();
            gpu::check_blas(gpu::blas_library().set_stream(handle, stream), "cublasSetStream");
            gpu::check_blas(gpu::blas_library().gemm_ex_64(handle, CUBLAS_OP_T, CUBLAS_OP_N, kSide, kSide, kSide, &one,
                                                           state->b.data(), CUDA_R_16BF, kSide, state->a.data(),
                                                           CUDA_R_16BF, kSide, &zero, state->c.data(), CUDA_R_16BF,
                                                           kSide, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                            "cublasGemmEx of 8192 x 8192 x 8192");
          }};
}

}  // namespace draft
