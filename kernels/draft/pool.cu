// Idea:     pooled[r, c] = mean or maximum over the real tokens u of region r of rows[u, c] (eq. 2).
// Map:      one CTA of 256 threads for each region and head of one tensor or two. A thread has 8 channels (one 16-byte
// vector) of every
//           (256 / vectors of a row)-th token of the region, with 8 loads in flight. Partial results of a channel are
//           combined through shared memory.
// Needs:    head_dim a multiple of 8, 16-byte aligned pointers, rows of any strides (strided.hpp), bfloat16 or float16;
//           sm_80 on.
// Costs:    reads 2 * heads * video * head_dim bytes once, past the L1; writes 4 * heads * regions * head_dim, 2 for
//           pool_elements.
// Numerics: fp32 sums in a fixed order (bit-identical runs), then one division by |R|; a maximum is exact and NaN if
//           one of its numbers is. Text is left out. pool_elements rounds the result once more.

#include <initializer_list>

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/element.cuh"
#include "kernels/draft/draft.hpp"

namespace draft::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 8;

template <Pool kPool>
__device__ float join(float a, float b) {
  if constexpr (kPool == Pool::average) return a + b;
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
  return larger;
}

/// What is pooled, and where to. Pooled: float, or the element's own type.
template <typename Pooled>
struct Side {
  const uint4* rows;
  Pooled* pooled;
  Strides strides;
};

/// gridDim.z: 1 for `first` alone, 2 for both.
template <Element kElement, Pool kPool, typename Pooled>
__global__ void __launch_bounds__(kThreads, 4)
    pool_kernel(Layout layout, __grid_constant__ const Side<Pooled> first_side,
                __grid_constant__ const Side<Pooled> second_side) {
  const Side<Pooled>& side = blockIdx.z == 0 ? first_side : second_side;
  const uint4* __restrict__ const rows = side.rows;
  const Strides strides = side.strides;
  __shared__ float parts[kThreads * kVector];  // partial results, [slots, head_dim]
  const int vectors = layout.head_dim / kVector;
  const int slots = kThreads / vectors;  // tokens that the CTA reads at a time
  const int slot = static_cast<int>(threadIdx.x) / vectors;
  const int vector = static_cast<int>(threadIdx.x) % vectors;
  const int region = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const Box box = layout.box(region);
  const int size = box.rows * box.columns;

  constexpr float kStart = kPool == Pool::average ? 0.0F : -INFINITY;
  float sum[kVector];
#pragma unroll
  for (float& channel : sum) channel = kStart;

  if (slot < slots) {
    const uint4* first = rows + strides.offset(head, box.first) / kVector + vector;
    const int row_step = slots / box.columns, column_step = slots % box.columns;
    int row = slot / box.columns, column = slot % box.columns;
    for (int token = slot; token < size; token += slots * kLoads) {
      uint4 packed[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        if (token + i * slots < size) {
          packed[i] = __ldcs(row_of(first, strides.token_bytes(), row * layout.width + column));
        }
        row += row_step;
        column += column_step;
        if (column >= box.columns) {
          column -= box.columns;
          ++row;
        }
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        if (token + i * slots < size) {
          float wide[kVector];
          widen<kElement>(packed[i], wide);
#pragma unroll
          for (int c = 0; c < kVector; ++c) sum[c] = join<kPool>(sum[c], wide[c]);
        }
      }
    }
    float* part = parts + slot * layout.head_dim + vector * kVector;
#pragma unroll
    for (int c = 0; c < kVector; ++c) part[c] = sum[c];
  }
  __syncthreads();

  Pooled* const out = side.pooled + (static_cast<std::int64_t>(head) * layout.regions() + region) * layout.head_dim;
  for (int channel = static_cast<int>(threadIdx.x); channel < layout.head_dim; channel += kThreads) {
    float total = kStart;
    for (int s = 0; s < slots; ++s) total = join<kPool>(total, parts[s * layout.head_dim + channel]);
    if constexpr (kPool == Pool::average) total /= static_cast<float>(size);
    out[channel] = static_cast<Pooled>(total);
  }
}

template <Element kElement, typename Pooled>
void launch(const Layout& layout, Pool kind, std::initializer_list<Side<Pooled>> sides, cudaStream_t stream) {
  const dim3 grid(layout.regions(), layout.heads, static_cast<unsigned>(sides.size()));
  const Side<Pooled>&first = *sides.begin(), &last = *(sides.end() - 1);
  if (kind == Pool::average) {
    pool_kernel<kElement, Pool::average><<<grid, kThreads, 0, stream>>>(layout, first, last);
  } else {
    pool_kernel<kElement, Pool::maximum><<<grid, kThreads, 0, stream>>>(layout, first, last);
  }
  check_launch("pool_kernel");
}

/// Throws std::invalid_argument unless the kernel can do it.
template <typename Pooled>
Side<Pooled> side_of(const Layout& layout, Element element, const void* rows, void* pooled,
                     const std::optional<Strides>& own) {
  require_valid(layout);
  const Strides strides = strides_of(layout, own);
  require_half("pool: element", element);
  require_aligned("pool: rows", rows);
  require_strides("pool: rows", layout, strides);
  require_aligned("pool: pooled", pooled);
  return {static_cast<const uint4*>(rows), static_cast<Pooled*>(pooled), strides};
}

}  // namespace

void pool(const Layout& layout, Element element, Pool kind, const void* rows, float* pooled, cudaStream_t stream,
          const std::optional<Strides>& strides) {
  const auto side = side_of<float>(layout, element, rows, pooled, strides);
  element == Element::bfloat16 ? launch<Element::bfloat16, float>(layout, kind, {side}, stream)
                               : launch<Element::float16, float>(layout, kind, {side}, stream);
}

void pool_both(const Layout& layout, Element element, Pool kind, const void* q, const void* k, float* pooled_q,
               float* pooled_k, cudaStream_t stream, const std::optional<Strides>& q_strides,
               const std::optional<Strides>& k_strides) {
  const auto first = side_of<float>(layout, element, q, pooled_q, q_strides);
  const auto second = side_of<float>(layout, element, k, pooled_k, k_strides);
  element == Element::bfloat16 ? launch<Element::bfloat16, float>(layout, kind, {first, second}, stream)
                               : launch<Element::float16, float>(layout, kind, {first, second}, stream);
}

void pool_elements(const Layout& layout, Element element, Pool kind, const void* rows, void* pooled,
                   cudaStream_t stream, const std::optional<Strides>& strides) {
  if (element == Element::bfloat16) {
    const auto side = side_of<__nv_bfloat16>(layout, element, rows, pooled, strides);
    launch<Element::bfloat16, __nv_bfloat16>(layout, kind, {side}, stream);
  } else {
    const auto side = side_of<__half>(layout, element, rows, pooled, strides);
    launch<Element::float16, __half>(layout, kind, {side}, stream);
  }
}

}  // namespace draft::gpu
