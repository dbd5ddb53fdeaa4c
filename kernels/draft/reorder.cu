// Idea:     reordered[p] = rows[token_at(p)] (Algorithm 1), and back, rows[t] = reordered[position_of(t)]
//           (Algorithm 2); the indices are computed, not stored.
// Map:      a thread copies one 16-byte vector of one output row, for up to 8 heads, which share the index arithmetic;
//           neighbouring threads have neighbouring vectors.
// Needs:    elements of 2 bytes, head_dim a multiple of 8, 16-byte aligned pointers; not in place; sm_80 on.
// Costs:    reads and writes 2 * heads * tokens * head_dim bytes, each once.
// Numerics: a copy of bits.

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/core/element.cuh"
#include "kernels/draft/draft.hpp"

namespace draft::gpu {
namespace {

constexpr int kThreads = 256;
constexpr int kHeads = 8;  // heads that one thread copies

template <bool kInverse>
__global__ void __launch_bounds__(kThreads)
    reorder_kernel(Layout layout, const uint4* __restrict__ from, uint4* __restrict__ to) {
  const int vectors = layout.head_dim / kVector;
  const std::int64_t item = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int target = static_cast<int>(item / vectors);
  if (target >= layout.tokens()) return;
  const int source = kInverse ? layout.position_of(target) : layout.token_at(target);
  const int vector = static_cast<int>(item % vectors);
  const int first = static_cast<int>(blockIdx.y) * kHeads;
  uint4 packed[kHeads];
#pragma unroll
  for (int i = 0; i < kHeads; ++i) {
    if (first + i < layout.heads) packed[i] = __ldcs(from + layout.offset(first + i, source) / kVector + vector);
  }
#pragma unroll
  for (int i = 0; i < kHeads; ++i) {
    if (first + i < layout.heads) __stcs(to + layout.offset(first + i, target) / kVector + vector, packed[i]);
  }
}

template <bool kInverse>
void launch(const Layout& layout, const void* from, void* to, cudaStream_t stream) {
  require_valid(layout);
  require_aligned("reorder: from", from);
  require_aligned("reorder: to", to);
  const std::int64_t items = static_cast<std::int64_t>(layout.tokens()) * (layout.head_dim / kVector);
  const dim3 grid(static_cast<unsigned>((items + kThreads - 1) / kThreads), (layout.heads + kHeads - 1) / kHeads);
  reorder_kernel<kInverse>
      <<<grid, kThreads, 0, stream>>>(layout, static_cast<const uint4*>(from), static_cast<uint4*>(to));
  check_launch("reorder_kernel");
}

}  // namespace

void reorder(const Layout& layout, const void* rows, void* reordered, cudaStream_t stream) {
  launch<false>(layout, rows, reordered, stream);
}

void restore(const Layout& layout, const void* reordered, void* rows, cudaStream_t stream) {
  launch<true>(layout, reordered, rows, stream);
}

}  // namespace draft::gpu
