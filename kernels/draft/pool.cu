// Idea:     pooled[r, c] = mean or maximum over the real tokens u of region r of rows[u, c] (eq. 2).
// Map:      one CTA of 256 threads for each region and head. A thread has 8 channels (one 16-byte vector) of every
//           (256 / vectors of a row)-th token of the region, with 8 loads in flight. Partial results of a channel are
//           combined through shared memory.
// Needs:    head_dim a multiple of 8, 16-byte aligned pointers, rows of any strides (strided.hpp), bfloat16 or float16;
//           sm_80 on.
// Costs:    reads 2 * heads * video * head_dim bytes once, past the L1; writes 4 * heads * regions * head_dim, 2 for
//           pool_elements.
// Numerics: fp32 sums in a fixed order (bit-identical runs), then one division by |R|; a maximum is exact and NaN if
//           one of its numbers is. Text is left out. pool_elements rounds the result once more.

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

/// Pooled: float, or the element's own type.
template <Element kElement, Pool kPool, typename Pooled>
__global__ void __launch_bounds__(kThreads, 4)
    pool_kernel(Layout layout, Strides strides, const uint4* __restrict__ rows, Pooled* __restrict__ pooled) {
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

  Pooled* out = pooled + (static_cast<std::int64_t>(head) * layout.regions() + region) * layout.head_dim;
  for (int channel = static_cast<int>(threadIdx.x); channel < layout.head_dim; channel += kThreads) {
    float total = kStart;
    for (int s = 0; s < slots; ++s) total = join<kPool>(total, parts[s * layout.head_dim + channel]);
    if constexpr (kPool == Pool::average) total /= static_cast<float>(size);
    out[channel] = static_cast<Pooled>(total);
  }
}

template <Element kElement, typename Pooled>
void launch(const Layout& layout, Pool kind, const void* rows, const Strides& strides, void* to, cudaStream_t stream) {
  const dim3 grid(layout.regions(), layout.heads);
  const auto* vectors = static_cast<const uint4*>(rows);
  auto* const pooled = static_cast<Pooled*>(to);
  if (kind == Pool::average) {
    pool_kernel<kElement, Pool::average><<<grid, kThreads, 0, stream>>>(layout, strides, vectors, pooled);
  } else {
    pool_kernel<kElement, Pool::maximum><<<grid, kThreads, 0, stream>>>(layout, strides, vectors, pooled);
  }
  check_launch("pool_kernel");
}

void require_pool(const Layout& layout, Element element, const void* rows, const Strides& strides, const void* pooled) {
  require_valid(layout);
  require_half("pool: element", element);
  require_aligned("pool: rows", rows);
  require_strides("pool: rows", layout, strides);
  require_aligned("pool: pooled", pooled);
}

}  // namespace

void pool(const Layout& layout, Element element, Pool kind, const void* rows, float* pooled, cudaStream_t stream,
          const std::optional<Strides>& own) {
  const Strides strides = strides_of(layout, own);
  require_pool(layout, element, rows, strides, pooled);
  element == Element::bfloat16 ? launch<Element::bfloat16, float>(layout, kind, rows, strides, pooled, stream)
                               : launch<Element::float16, float>(layout, kind, rows, strides, pooled, stream);
}

void pool_elements(const Layout& layout, Element element, Pool kind, const void* rows, void* pooled,
                   cudaStream_t stream, const std::optional<Strides>& own) {
  const Strides strides = strides_of(layout, own);
  require_pool(layout, element, rows, strides, pooled);
  element == Element::bfloat16 ? launch<Element::bfloat16, __nv_bfloat16>(layout, kind, rows, strides, pooled, stream)
                               : launch<Element::float16, __half>(layout, kind, rows, strides, pooled, stream);
}

}  // namespace draft::gpu
