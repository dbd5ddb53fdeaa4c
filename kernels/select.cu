// Idea:     the count-th largest score of each head, exactly, without a sort: radix select on order-preserving
//           32-bit keys, digit by digit (11, 11, 10 bits) among the entries that share the digits found so far.
// Map:      histogram: blocks of 512 threads over 32,768 neighbouring entries of one head, counted in shared
//           memory, then added to the head's bins. find: one block a head picks the digit. Three rounds.
// Needs:    scores [heads, regions, regions] fp32; at most kMostBlocks regions; sm_80 on. Rule::row goes to
//           select_row.cu.
// Costs:    reads 3 * 4 * heads * regions^2 bytes; about regions^2 shared atomics a head in the first round, few
//           in the others.
// Numerics: integers throughout, so the same result on every run; -0 equals 0; infinities are scores; a NaN sets
//           the head's status. Ties are counted here and resolved by index in lists.cu.

#include "kernels/arguments.hpp"
#include "kernels/cuda_check.hpp"
#include "kernels/find_digit.cuh"
#include "kernels/selection.cuh"

namespace draft::gpu {
namespace {

constexpr int kThreads = 512;
constexpr int kLoads = 8;
constexpr int kChunk = kThreads * kLoads * 8;  // entries that one block counts
constexpr int kFindThreads = 1024;

template <int kDigit>
__global__ void __launch_bounds__(kThreads)
    histogram_kernel(std::uint32_t entries, const float* __restrict__ scores, const Threshold* __restrict__ thresholds,
                     std::uint32_t* __restrict__ histograms, std::int32_t* __restrict__ status) {
  constexpr int kOwnBins = 1 << kBits[kDigit], kOwnShift = kShift[kDigit];
  [[maybe_unused]] constexpr int kAbove = kOwnShift + kBits[kDigit];  // bits of the digits found so far
  __shared__ std::uint32_t bins[kOwnBins];
  const int head = static_cast<int>(blockIdx.y);
  const float* own = scores + static_cast<std::int64_t>(head) * entries;
  const std::uint32_t first = blockIdx.x * kChunk;
  const std::uint32_t last = min(entries, first + kChunk);
  const std::uint32_t prefix = kDigit == 0 ? 0 : thresholds[head].key;

  for (int bin = static_cast<int>(threadIdx.x); bin < kOwnBins; bin += kThreads) bins[bin] = 0;
  __syncthreads();

  bool found_nan = false;
  for (std::uint32_t start = first + threadIdx.x; start < last; start += kThreads * kLoads) {
    float loaded[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i) loaded[i] = start + i * kThreads < last ? own[start + i * kThreads] : 0.0F;
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      if (start + i * kThreads >= last) break;
      const std::uint32_t key = order_key(loaded[i]);
      if constexpr (kDigit == 0) {
        found_nan |= is_nan(loaded[i]);
        atomicAdd(&bins[key >> kOwnShift], 1U);
      } else if (((key ^ prefix) >> (kAbove)) == 0) {
        atomicAdd(&bins[(key >> kOwnShift) & (kOwnBins - 1)], 1U);
      }
    }
  }
  if (kDigit == 0 && found_nan) atomicOr(&status[head], kNaNScore);
  __syncthreads();

  std::uint32_t* out = histograms + static_cast<std::size_t>(head) * kBins;
  for (int bin = static_cast<int>(threadIdx.x); bin < kOwnBins; bin += kThreads) {
    if (bins[bin] != 0) atomicAdd(&out[bin], bins[bin]);
  }
}

template <int kDigit>
__global__ void __launch_bounds__(kFindThreads)
    find_kernel(std::uint32_t count, bool all_ties, const std::uint32_t* __restrict__ histograms,
                Threshold* thresholds) {
  __shared__ std::uint32_t warp_sums[kFindThreads / 32];
  __shared__ Digit answer;
  constexpr int kPerThread = (1 << kBits[kDigit]) / kFindThreads, kOwnShift = kShift[kDigit];
  Threshold& threshold = thresholds[blockIdx.x];
  const std::uint32_t wanted = kDigit == 0 ? count : threshold.kept;
  const std::uint32_t prefix = kDigit == 0 ? 0 : threshold.key;
  const Digit found = find_digit<kFindThreads, kPerThread>(histograms + static_cast<std::size_t>(blockIdx.x) * kBins,
                                                           wanted, warp_sums, answer);
  if (threadIdx.x == 0) {
    const bool done = kDigit == kDigits - 1;
    threshold = {prefix | found.digit << kOwnShift, done && all_ties ? found.size : found.wanted, found.size};
  }
}

template <int kDigit>
void find_next_digit(const Layout& layout, const Cut& cut, const float* scores, const Workspace& workspace,
                     std::int32_t* status, cudaStream_t stream) {
  const auto entries = static_cast<std::uint32_t>(layout.map_offset(1));
  std::uint32_t* histograms = workspace.histograms + static_cast<std::size_t>(kDigit) * layout.heads * kBins;
  const dim3 grid((entries + kChunk - 1) / kChunk, layout.heads);
  histogram_kernel<kDigit><<<grid, kThreads, 0, stream>>>(entries, scores, workspace.thresholds, histograms, status);
  check_launch("histogram_kernel");
  find_kernel<kDigit><<<layout.heads, kFindThreads, 0, stream>>>(static_cast<std::uint32_t>(cut.count), cut.all_ties,
                                                                 histograms, workspace.thresholds);
  check_launch("find_kernel");
}

}  // namespace

std::size_t workspace_bytes(const Layout& layout) {
  require_valid(layout);
  return Workspace::bytes(layout);
}

void find_thresholds(const Layout& layout, Rule rule, double sparsity, const float* scores, void* workspace,
                     std::int32_t* status, cudaStream_t stream) {
  require_valid(layout);
  require_aligned("find_thresholds: scores", scores);
  require_aligned("find_thresholds: workspace", workspace);
  require_aligned("find_thresholds: status", status);
  const Cut cut = rule_cut(rule, sparsity, layout.regions());
  const Workspace parts(layout, workspace);
  check(cudaMemsetAsync(status, 0, layout.heads * sizeof(std::int32_t), stream), "cudaMemsetAsync of status");
  if (cut.by_row) {
    find_row_thresholds(layout, static_cast<std::uint32_t>(cut.count), scores, parts.thresholds, status, stream);
  } else {
    check(cudaMemsetAsync(parts.histograms, 0, Workspace::histogram_words(layout) * sizeof(std::uint32_t), stream),
          "cudaMemsetAsync of histograms");
    find_next_digit<0>(layout, cut, scores, parts, status, stream);
    find_next_digit<1>(layout, cut, scores, parts, status, stream);
    find_next_digit<2>(layout, cut, scores, parts, status, stream);
  }
}

}  // namespace draft::gpu
