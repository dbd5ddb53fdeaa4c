// Idea:     the count-th largest score of each head, exactly, without a sort and in one pass over all scores. A sample
//           gives a bracket, two keys between which it almost surely lies. The pass counts the entries above the
//           bracket and collects those inside, a few percent. A radix select of these, 11 bits at a time, finds it.
// Map:      bracket: one CTA of 1,024 threads for each head, 8 samples a thread. collect: one CTA of 256 threads for
//           each 8,192 neighbouring entries of a head. finish: one CTA of 1,024 threads for each head. In maps of at
//           most kOneCta entries finish takes the sample and makes the pass itself.
// Needs:    scores [heads, regions, regions] fp32; at most kMostBlocks regions; sm_80 on. Rule::row goes to
//           select_row.cu.
// Costs:    reads 4 * heads * regions^2 bytes once. If the bracket misses the score or holds too many entries (many
//           equal scores), and in maps of at most kSamples entries, finish reads all entries once for each digit
//           instead, which is slower for large maps.
// Numerics: integers throughout, so the same result on every run; -0 equals 0; infinities are scores; a NaN sets
//           the head's status. Ties are counted here and resolved by index in lists.cu.

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/draft/bracket.cuh"
#include "kernels/draft/draft.hpp"
#include "kernels/draft/selection.cuh"

namespace draft::gpu {
namespace {

constexpr std::uint32_t kOneCta = 65536;  // entries of a map that finish goes through alone

constexpr int kThreads = 256;                    // threads of collect_kernel
constexpr std::uint32_t kChunk = kThreads * 32;  // entries of its CTA
constexpr std::uint32_t kLocal = 1024;           // candidates that fit a CTA's shared memory

__global__ void __launch_bounds__(kWideThreads)
    bracket_kernel(std::uint32_t entries, std::uint32_t count, const float* __restrict__ scores, Bracket* brackets,
                   std::int32_t* status) {
  extern __shared__ __align__(16) unsigned char shared[];
  const float* own = scores + static_cast<std::int64_t>(blockIdx.x) * entries;
  const Bracket bracket = sample_bracket(*reinterpret_cast<Histogram*>(shared), entries, count, own);
  if (threadIdx.x == 0) {
    brackets[blockIdx.x] = bracket;
    status[blockIdx.x] = kFine;
  }
}

__global__ void __launch_bounds__(kThreads)
    collect_kernel(std::uint32_t entries, std::uint32_t capacity, const float* __restrict__ scores, Bracket* brackets,
                   Candidate* candidates, std::int32_t* status) {
  __shared__ Candidate local[kLocal];
  __shared__ std::uint32_t found, above, place;
  const int head = static_cast<int>(blockIdx.y);
  const float* own = scores + static_cast<std::int64_t>(head) * entries;
  Candidate* list = candidates + static_cast<std::size_t>(head) * capacity;
  Bracket& bracket = brackets[head];
  const std::uint32_t first = blockIdx.x * kChunk;
  if (threadIdx.x == 0) found = above = 0;
  __syncthreads();
  const auto keep = [&](std::uint32_t slot, const Candidate& candidate) {
    if (slot < kLocal) {
      local[slot] = candidate;
    } else if (const std::uint32_t far = atomicAdd(&bracket.found, 1U); far < capacity) {
      list[far] = candidate;
    }
  };
  const bool found_nan = collect<kThreads>(own, first, min(entries, first + kChunk), bracket, found, above, keep);
  if (found_nan) atomicOr(&status[head], kNaNScore);
  __syncthreads();
  const std::uint32_t kept = min(found, kLocal);
  if (threadIdx.x == 0) {
    if (above != 0) atomicAdd(&bracket.above, above);
    place = kept == 0 ? 0 : atomicAdd(&bracket.found, kept);
  }
  __syncthreads();
  for (std::uint32_t i = threadIdx.x; i < kept && place + i < capacity; i += kThreads) list[place + i] = local[i];
}

/// The entries of a head that finish goes through: the collected candidates, or the whole map.
struct Entries {
  const Candidate* candidates;  // null: the whole map
  const float* scores;
  std::uint32_t size;

  /// Calls visit(entry) once for every entry, in one of kWideThreads threads; 16 loads are in flight in each.
  template <typename Visit>
  __device__ void for_each(Visit visit) const {
    if (candidates != nullptr) {
      for_each(visit, [this](std::uint32_t i) { return candidates[i]; });
    } else {
      for_each(visit, [this](std::uint32_t i) { return Candidate{order_key(scores[i]), i}; });
    }
  }

 private:
  template <typename Visit, typename Load>
  __device__ void for_each(Visit visit, Load load) const {
    constexpr int kBatch = 16;
    for (std::uint32_t i = threadIdx.x; i < size; i += kBatch * kWideThreads) {
      Candidate batch[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) batch[b] = load(min(i + b * kWideThreads, size - 1));
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (i + b * kWideThreads < size) visit(batch[b]);
      }
    }
  }
};

/// What bracket_kernel and collect_kernel do, for one head in one CTA. A map of at most kSamples entries gets no
/// bracket. Called by all kWideThreads threads.
__device__ Bracket collect_alone(Histogram& histogram, std::uint32_t entries, std::uint32_t count,
                                 std::uint32_t capacity, const float* __restrict__ own, Candidate* list,
                                 std::int32_t& status) {
  __shared__ std::uint32_t found, above;
  if (threadIdx.x == 0) found = above = 0;
  Bracket bracket{};
  bool found_nan = false;
  if (entries > kSamples) {
    bracket = sample_bracket(histogram, entries, count, own);
    found_nan = collect<kWideThreads>(own, 0, entries, bracket, found, above, [=](std::uint32_t slot, Candidate entry) {
      if (slot < capacity) list[slot] = entry;
    });
  } else {
    for (std::uint32_t i = threadIdx.x; i < entries; i += kWideThreads) found_nan |= is_nan(own[i]);
  }
  const bool any_nan = __syncthreads_or(found_nan ? 1 : 0) != 0;
  if (threadIdx.x == 0) status = any_nan ? kNaNScore : kFine;
  return {bracket.low, bracket.high, above, found};
}

/// `alone`: bracket and collect did not run.
__global__ void __launch_bounds__(kWideThreads)
    finish_kernel(int regions, bool alone, std::uint32_t count, bool all_ties, std::uint32_t capacity,
                  const float* __restrict__ scores, const Bracket* __restrict__ brackets, Candidate* candidates,
                  Threshold* thresholds, std::uint32_t* row_ties, std::int32_t* status) {
  extern __shared__ __align__(16) unsigned char shared[];
  Histogram& histogram = *reinterpret_cast<Histogram*>(shared);
  const int head = static_cast<int>(blockIdx.x);
  const std::uint32_t size = static_cast<std::uint32_t>(regions) * static_cast<std::uint32_t>(regions);
  Entries entries{nullptr, scores + static_cast<std::int64_t>(head) * size, size};
  Candidate* const list = candidates + static_cast<std::size_t>(head) * capacity;
  const Bracket bracket =
      alone ? collect_alone(histogram, size, count, capacity, entries.scores, list, status[head]) : brackets[head];
  std::uint32_t low = 0, wanted = count;
  int bits = 32;  // lower bits of key - low that candidates differ in
  if (bracket.found <= capacity && bracket.above < count && count - bracket.above <= bracket.found) {
    entries.candidates = list;
    entries.size = bracket.found;
    low = bracket.low;
    wanted = count - bracket.above;
    bits = max(32 - __clz(static_cast<int>(bracket.high - bracket.low)), 1);
  }

  std::uint32_t found = 0;  // the digits of key - low that are known so far, in place
  Digit digit{};
  for (int rest = bits; rest > 0;) {
    const int shift = max(rest - kDigitBits, 0);
    const std::uint32_t mask = (1U << (rest - shift)) - 1U;
    histogram.clear();
    entries.for_each([&](Candidate entry) {
      const std::uint32_t key = entry.key - low;
      // A candidate agrees in all bits from `rest` on. Two shifts, since rest is 32 at first and one by 32 is
      // undefined.
      if (((key ^ found) >> (rest - 1)) >> 1 == 0) histogram.count(key >> shift & mask);
    });
    histogram.close();
    digit = histogram.find(wanted);
    found |= digit.digit << shift;
    wanted = digit.wanted;
    rest = shift;
  }
  const std::uint32_t key = low + found, kept = all_ties ? digit.size : digit.wanted;
  if (threadIdx.x == 0) thresholds[head] = {key, kept, digit.size};
  if (kept == digit.size) return;
  // Only some of the ties are kept: lists.cu needs the number of ties in each block row.
  std::uint32_t* own_ties = row_ties + static_cast<std::size_t>(head) * regions;
  for (int row = static_cast<int>(threadIdx.x); row < regions; row += kWideThreads) own_ties[row] = 0;
  __syncthreads();
  entries.for_each([&](Candidate entry) {
    if (entry.key == key) atomicAdd(&own_ties[entry.index / static_cast<std::uint32_t>(regions)], 1U);
  });
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
  require_aligned("find_thresholds: status", status, sizeof *status);
  const Cut cut = rule_cut(rule, sparsity, layout.regions());
  const Workspace parts(layout, workspace);
  const auto count = static_cast<std::uint32_t>(cut.count);
  if (cut.by_row) {
    check(cudaMemsetAsync(status, 0, layout.heads * sizeof(std::int32_t), stream), "cudaMemsetAsync of status");
    find_row_thresholds(layout, count, scores, parts.thresholds, status, stream);
    return;
  }
  const auto entries = static_cast<std::uint32_t>(layout.map_offset(1));
  const auto heads = static_cast<unsigned>(layout.heads);
  const bool alone = entries <= kOneCta;
  constexpr int kShared = sizeof(Histogram);
  static_assert(kShared <= 48 * 1024);
  if (!alone) {
    bracket_kernel<<<heads, kWideThreads, kShared, stream>>>(entries, count, scores, parts.brackets, status);
    check_launch("bracket_kernel");
    collect_kernel<<<dim3((entries + kChunk - 1) / kChunk, heads), kThreads, 0, stream>>>(
        entries, Workspace::capacity(layout), scores, parts.brackets, parts.candidates, status);
    check_launch("collect_kernel");
  }
  finish_kernel<<<heads, kWideThreads, kShared, stream>>>(layout.regions(), alone, count, cut.all_ties,
                                                          Workspace::capacity(layout), scores, parts.brackets,
                                                          parts.candidates, parts.thresholds, parts.row_ties, status);
  check_launch("finish_kernel");
}

}  // namespace draft::gpu
