#include "kernels/attend/attention.hpp"

#include <cmath>
#include <stdexcept>

#include "kernels/attend/wgmma/kernel.hpp"
#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {

const std::vector<AttentionKernel>& attention_kernels() {
  static const std::vector<AttentionKernel> kernels{
      {"mma", "fused, mma.sync and cp.async: sm_80 on, head_dim 64 and 128", attend_mma_unsupported,
       [](const Attention&) -> std::size_t { return 0; },
       [](const Attention& call, const Resources&, cudaStream_t stream) { attend_mma(call, stream); }},
      {"wgmma", "fused, wgmma and TMA: Hopper, regions read in token order as boxes", attend_wgmma_unsupported,
       attend_wgmma_workspace,
       [](const Attention& call, const Resources& resources, cudaStream_t stream) {
         attend_wgmma(call, resources.workspace, stream);
       }},
      {"blas", "cuBLAS, softmax, cuBLAS over chunks of rows: the plain one, any head_dim",
       [](const Attention&, int) { return std::string(); }, attend_blas_workspace, attend_blas},
  };
  return kernels;
}

void require_valid(const Attention& call) {
  require_valid(call.layout);
  require_half("attention: element", call.element);
  require_aligned("attention: q", call.q);
  require_aligned("attention: k", call.k);
  require_aligned("attention: v", call.v);
  require_aligned("attention: o", call.o);
  require_aligned("attention: lse", call.lse);
  if (!(std::isfinite(call.scale) && call.scale > 0.0F)) {
    throw std::invalid_argument("attention: scale must be finite and positive, found " + std::to_string(call.scale));
  }
  if ((call.lists.columns == nullptr) != (call.lists.counts == nullptr)) {
    throw std::invalid_argument(std::string("attention: wanted columns and counts, or neither, found ") +
                                (call.lists.columns == nullptr ? "counts" : "columns") + " alone");
  }
}

}  // namespace draft::gpu
