// Idea:     eqs. 1 and 5 in three steps: S = Q K^T, P = exp(scale (S - max)), O = P V / sum P, for as many query rows
//           at a time as the scratch holds. A second implementation on the GPU to check the fused kernels against.
// Map:      both products are one cuBLAS GEMM for each chunk of rows; between them one CTA of 256 threads for each row.
// Needs:    sm_80 on; any head_dim; bf16 or fp16; token or region order; contiguous q, k, v, o; lists as write_lists
//           makes them, or none.
// Costs:    4 * tokens^2 * head_dim FLOPs a head whatever the lists say; 16 bytes a logit through memory.
// Numerics: S in fp32, the maximum over kept keys exact, P rounded to the element type before P V, its sum taken
//           before that rounding, O summed in fp32. A row without a key has output 0 and lse = -inf. One stream,
//           one algorithm a shape, sums in a fixed order: same input, same bits.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <type_traits>

#include "kernels/attend/attention.hpp"
#include "kernels/core/arguments.hpp"
#include "kernels/core/blas_library.hpp"
#include "kernels/core/logarithms.hpp"
#include "kernels/core/reduce.cuh"

namespace draft::gpu {
namespace {

constexpr int kThreads = 256;
constexpr std::size_t kScratch = std::size_t{512} << 20;
constexpr int kFewestRows = 64;

/// Where the parts of the scratch lie, all aligned to 256 bytes.
struct Scratch {
  std::int64_t stride;  // elements from one row of S or P to the next: rows start at 16 bytes, as fast GEMMs need
  int rows;             // query rows of a chunk
  std::size_t logits, weights, sums, output, blocks, bytes;

  explicit Scratch(const Layout& layout) : stride((layout.tokens() + 7) / 8 * 8) {
    const std::size_t a_row = static_cast<std::size_t>(stride) * 6 + static_cast<std::size_t>(layout.head_dim) * 4 + 4;
    const std::size_t fixed = static_cast<std::size_t>(layout.tokens()) * 2 + 5 * 256;
    const std::size_t fitting = fixed < kScratch ? (kScratch - fixed) / a_row : 0;
    const auto most = static_cast<std::size_t>(layout.tokens());
    rows = static_cast<int>(std::min(most, std::max<std::size_t>(fitting / kFewestRows * kFewestRows, kFewestRows)));
    std::size_t end = 0;
    const auto take = [&](std::size_t size) {
      const std::size_t start = end;
      end += (size + 255) / 256 * 256;
      return start;
    };
    const auto all = static_cast<std::size_t>(rows);
    logits = take(all * static_cast<std::size_t>(stride) * sizeof(float));
    weights = take(all * static_cast<std::size_t>(stride) * 2);
    sums = take(all * sizeof(float));
    output = take(all * static_cast<std::size_t>(layout.head_dim) * sizeof(float));
    blocks = take(static_cast<std::size_t>(layout.tokens()) * sizeof(std::uint16_t));
    bytes = end;
  }
};

/// The block that each row of the tensors belongs to, [tokens].
__global__ void __launch_bounds__(kThreads) block_kernel(Layout layout, bool region_order, std::uint16_t* blocks) {
  const int place = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (place >= layout.tokens()) return;
  blocks[place] = static_cast<std::uint16_t>(layout.block_of(region_order ? layout.token_at(place) : place));
}

template <typename Number>
__device__ inline Number rounded(float value) {
  if constexpr (std::is_same_v<Number, __half>) {
    return __float2half_rn(value);
  } else {
    return __float2bfloat16_rn(value);
  }
}

/// One CTA for each row of the chunk: S -> P, the sum of P, and the log-sum-exp. Shared memory: one byte a block, 1
/// where the row keeps it.
template <typename Number>
__global__ void __launch_bounds__(kThreads)
    weights_kernel(const __grid_constant__ Attention call, int head, int first_row, std::int64_t stride,
                   const std::uint16_t* __restrict__ blocks, const float* __restrict__ logits,
                   Number* __restrict__ weights, float* __restrict__ sums) {
  extern __shared__ std::uint8_t kept[];
  __shared__ float highest_parts[kThreads / 32], sum_parts[kThreads / 32];
  const int all = call.layout.blocks(), tokens = call.layout.tokens(), row = first_row + static_cast<int>(blockIdx.x);
  const bool dense = call.dense();
  if (!dense) {
    const std::int64_t list = static_cast<std::int64_t>(head) * all + blocks[row];
    for (int i = static_cast<int>(threadIdx.x); i < all; i += kThreads) kept[i] = 0;
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < call.lists.counts[list]; i += kThreads) {
      kept[call.lists.columns[list * all + i]] = 1;
    }
    __syncthreads();
  }
  const float* own = logits + blockIdx.x * stride;
  float highest = -INFINITY;
  for (int key = static_cast<int>(threadIdx.x); key < tokens; key += kThreads) {
    if (dense || kept[blocks[key]] != 0) highest = Larger{}(highest, own[key]);
  }
  highest = reduce_block(highest, Larger{}, highest_parts);
  const float scale2 = call.scale * static_cast<float>(kLog2E);
  float sum = 0.0F;
  for (int key = static_cast<int>(threadIdx.x); key < tokens; key += kThreads) {
    const bool keep = dense || kept[blocks[key]] != 0;  // false for every key if the maximum is -inf: no inf - inf
    const float weight = keep ? exp2f((own[key] - highest) * scale2) : 0.0F;
    sum += weight;
    weights[blockIdx.x * stride + key] = rounded<Number>(weight);
  }
  sum = reduce_block(sum, Plus{}, sum_parts);
  if (threadIdx.x == 0) {
    sums[blockIdx.x] = sum;
    // Not `sum > 0`, which would hide a NaN.
    call.lse[static_cast<std::int64_t>(head) * tokens + row] =
        sum == 0.0F ? -INFINITY : fmaf(highest, call.scale, logf(sum));
  }
}

template <typename Number>
__global__ void __launch_bounds__(kThreads) divide_kernel(int dim, std::int64_t entries, const float* __restrict__ sums,
                                                          const float* __restrict__ unscaled, Number* __restrict__ o) {
  const std::int64_t entry = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (entry >= entries) return;
  const float sum = sums[entry / dim];
  o[entry] = rounded<Number>(sum == 0.0F ? 0.0F : unscaled[entry] / sum);
}

template <typename Number>
void attend_rows(const Attention& call, const Blas& blas, const Scratch& scratch, unsigned char* memory, int head,
                 int first, int rows, cudaDataType type, cudaStream_t stream) {
  const Layout& layout = call.layout;
  const int tokens = layout.tokens(), dim = layout.head_dim;
  const auto* q = static_cast<const Number*>(call.q) + layout.offset(head, first);
  const auto* k = static_cast<const Number*>(call.k) + layout.offset(head, 0);
  const auto* v = static_cast<const Number*>(call.v) + layout.offset(head, 0);
  auto* o = static_cast<Number*>(call.o) + layout.offset(head, first);
  auto* logits = reinterpret_cast<float*>(memory + scratch.logits);
  auto* weights = reinterpret_cast<Number*>(memory + scratch.weights);
  auto* sums = reinterpret_cast<float*>(memory + scratch.sums);
  auto* output = reinterpret_cast<float*>(memory + scratch.output);
  const auto* blocks = reinterpret_cast<const std::uint16_t*>(memory + scratch.blocks);
  const float one = 1.0F, zero = 0.0F;
  // cuBLAS is column-major: it sees our row-major tensors transposed, so S = Q K^T is asked for as K Q^T.
  check_blas(blas_library().gemm_ex_64(blas.handle(), CUBLAS_OP_T, CUBLAS_OP_N, tokens, rows, dim, &one, k, type, dim,
                                       q, type, dim, &zero, logits, CUDA_R_32F, scratch.stride, CUBLAS_COMPUTE_32F,
                                       CUBLAS_GEMM_DEFAULT),
             "cublasGemmEx of Q K^T");
  weights_kernel<<<rows, kThreads, layout.blocks(), stream>>>(call, head, first, scratch.stride, blocks, logits,
                                                              weights, sums);
  check_launch("weights_kernel");
  check_blas(blas_library().gemm_ex_64(blas.handle(), CUBLAS_OP_N, CUBLAS_OP_N, dim, rows, tokens, &one, v, type, dim,
                                       weights, type, scratch.stride, &zero, output, CUDA_R_32F, dim,
                                       CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
             "cublasGemmEx of P V");
  const std::int64_t entries = static_cast<std::int64_t>(rows) * dim;
  divide_kernel<<<static_cast<unsigned>((entries + kThreads - 1) / kThreads), kThreads, 0, stream>>>(dim, entries, sums,
                                                                                                     output, o);
  check_launch("divide_kernel");
}

template <typename Number>
void attend_heads(const Attention& call, const Blas& blas, unsigned char* memory, cudaDataType type,
                  cudaStream_t stream) {
  const Scratch scratch(call.layout);
  const int tokens = call.layout.tokens();
  block_kernel<<<(tokens + kThreads - 1) / kThreads, kThreads, 0, stream>>>(
      call.layout, call.region_order, reinterpret_cast<std::uint16_t*>(memory + scratch.blocks));
  check_launch("block_kernel");
  check_blas(blas_library().set_stream(blas.handle(), stream), "cublasSetStream");
  for (int head = 0; head < call.layout.heads; ++head) {
    for (int first = 0; first < tokens; first += scratch.rows) {
      attend_rows<Number>(call, blas, scratch, memory, head, first, std::min(scratch.rows, tokens - first), type,
                          stream);
    }
  }
}

std::size_t workspace(const Attention& call) {
  require_valid(call.layout);
  return Scratch(call.layout).bytes;
}

std::string unsupported(const Attention& call, int) {
  if (call.pooled_k != nullptr) return "has no pooled remainder";
  return call.contiguous() ? "" : "wants contiguous tensors";
}

void launch(const Attention& call, const Resources& resources, cudaStream_t stream) {
  require_valid(call);
  if (const std::string why = unsupported(call, 0); !why.empty()) throw std::invalid_argument("attend_blas " + why);
  require_aligned("attend_blas: workspace", resources.workspace);
  auto* memory = static_cast<unsigned char*>(resources.workspace);
  call.element == Element::bfloat16 ? attend_heads<__nv_bfloat16>(call, resources.blas, memory, CUDA_R_16BF, stream)
                                    : attend_heads<__half>(call, resources.blas, memory, CUDA_R_16F, stream);
}

}  // namespace

AttentionKernel blas_kernel() {
  return {"blas", "cuBLAS, softmax, cuBLAS over chunks of rows: the plain one, any head_dim", unsupported, workspace,
          launch};
}

}  // namespace draft::gpu
