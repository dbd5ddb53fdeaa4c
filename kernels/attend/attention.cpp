#include "kernels/attend/attention.hpp"

#include <cmath>
#include <stdexcept>

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {

#define KERNEL(name) AttentionKernel name##_kernel();
#include "kernels/attend/kernels.inc"
#undef KERNEL

const std::vector<AttentionKernel>& attention_kernels() {
  static const std::vector<AttentionKernel> kernels{
#define KERNEL(name) name##_kernel(),
#include "kernels/attend/kernels.inc"
#undef KERNEL
  };
  return kernels;
}

bool Attention::contiguous() const {
  const Strides own = Strides::contiguous(layout);
  return q_strides() == own && k_strides() == own && v_strides() == own && o_strides() == own;
}

void require_valid(const Attention& call) {
  require_valid(call.layout);
  require_half("attention: element", call.element);
  require_aligned("attention: q", call.q);
  require_aligned("attention: k", call.k);
  require_aligned("attention: v", call.v);
  require_aligned("attention: o", call.o);
  require_aligned("attention: lse", call.lse);
  require_strides("attention: q", call.layout, call.q_strides());
  require_strides("attention: k", call.layout, call.k_strides());
  require_strides("attention: v", call.layout, call.v_strides());
  require_output_strides("attention: o", call.layout, call.o_strides());
  if (!(std::isfinite(call.scale) && call.scale > 0.0F)) {
    throw std::invalid_argument("attention: scale must be finite and positive, found " + std::to_string(call.scale));
  }
  if ((call.lists.columns == nullptr) != (call.lists.counts == nullptr)) {
    throw std::invalid_argument(std::string("attention: wanted columns and counts, or neither, found ") +
                                (call.lists.columns == nullptr ? "counts" : "columns") + " alone");
  }
  if ((call.pooled_k == nullptr) != (call.pooled_v == nullptr)) {
    throw std::invalid_argument(std::string("attention: wanted pooled_k and pooled_v, or neither, found ") +
                                (call.pooled_k == nullptr ? "pooled_v" : "pooled_k") + " alone");
  }
  if (call.pooled_k != nullptr) {
    require_aligned("attention: pooled_k", call.pooled_k);
    require_aligned("attention: pooled_v", call.pooled_v);
  }
}

}  // namespace draft::gpu
