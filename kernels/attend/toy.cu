// Idea:     eq. 5, row by row, as it is written: two passes over the kept keys, no tensor cores, no shared tiles.
// Map:      one CTA of head_dim threads for each query row; each thread computes one channel of the output.
// Needs:    head_dim 64 or 128; bf16; token order; contiguous q, k, v, o; lists as write_lists makes them, or none.
// Costs:    6 * tokens * kept tokens * head_dim FLOPs a head without tensor cores: for small problems.
// Numerics: everything in fp32, P not rounded. A row without a key has output 0 and lse = -inf.

#include <cuda_bf16.h>

#include <stdexcept>

#include "kernels/attend/attention.hpp"
#include "kernels/attend/toy.hpp"
#include "kernels/core/block_rows.cuh"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/reduce.cuh"

namespace draft::gpu {
namespace {

template <int kDim>
__global__ void __launch_bounds__(kDim)
    attend_toy(const __grid_constant__ Attention call, const __grid_constant__ BlockMap map) {
  __shared__ float parts[2][kDim / 32];
  const int head = static_cast<int>(blockIdx.y), row = static_cast<int>(blockIdx.x),
            channel = static_cast<int>(threadIdx.x);
  const auto* q = static_cast<const __nv_bfloat16*>(call.q);
  const auto* k = static_cast<const __nv_bfloat16*>(call.k);
  const auto* v = static_cast<const __nv_bfloat16*>(call.v);
  const std::int64_t list = static_cast<std::int64_t>(head) * call.layout.blocks() + call.layout.block_of(row);
  const int kept = call.dense() ? call.layout.blocks() : call.lists.counts[list];
  const float own_q = __bfloat162float(q[call.layout.offset(head, row) + channel]);

  float highest = -INFINITY, total = 0.0F, sum = 0.0F;
  int buffer = 0;  // two buffers of partial sums: a slow warp may still read one while the next key's sums are written
  for (int place = 0; place < kept; ++place) {
    const BlockRows rows = map.rows(call.dense() ? place : call.lists.columns[list * call.layout.blocks() + place]);
    for (int i = 0; i < rows.count; ++i) {
      const std::int64_t key = call.layout.offset(head, rows.token(i)) + channel;
      const float logit = call.scale * reduce_block(own_q * __bfloat162float(k[key]), Plus{}, parts[buffer ^= 1]);
      const float risen = fmaxf(highest, logit);
      const float shrink = expf(highest - risen), weight = expf(logit - risen);
      total = total * shrink + weight;
      sum = sum * shrink + weight * __bfloat162float(v[key]);
      highest = risen;
    }
  }
  static_cast<__nv_bfloat16*>(call.o)[call.layout.offset(head, row) + channel] =
      __float2bfloat16_rn(kept == 0 ? 0.0F : sum / total);
  if (channel == 0) {
    call.lse[static_cast<std::int64_t>(head) * call.layout.tokens() + row] =
        kept == 0 ? -INFINITY : highest + logf(total);
  }
}

std::string unsupported(const Attention& call, int) {
  if (call.pooled_k != nullptr) return "has no pooled remainder";
  if (call.layout.head_dim != 64 && call.layout.head_dim != 128) return "wants head_dim 64 or 128";
  if (call.element != Element::bfloat16) return "wants bfloat16";
  if (!call.contiguous()) return "wants contiguous tensors";
  return call.region_order ? "wants token order" : "";
}

void launch(const Attention& call, const Resources&, cudaStream_t stream) {
  require_valid(call);
  if (const std::string why = unsupported(call, 0); !why.empty()) throw std::invalid_argument("attend_toy " + why);
  const auto kernel = call.layout.head_dim == 64 ? attend_toy<64> : attend_toy<128>;
  const dim3 grid(static_cast<unsigned>(call.layout.tokens()), static_cast<unsigned>(call.layout.heads));
  kernel<<<grid, call.layout.head_dim, 0, stream>>>(call, BlockMap(call.layout, false));
  check_launch("attend_toy");
}

}  // namespace

AttentionKernel toy_kernel() {
  return {"toy", "a row at a time on the plain cores: the least there is", unsupported,
          [](const Attention&) -> std::size_t { return 0; }, launch};
}

}  // namespace draft::gpu
