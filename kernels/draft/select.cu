// Idea:     the count-th largest score of each head, exactly, without a sort and in one pass over all scores. A sample
//           gives a bracket, two keys between which it almost surely lies. The pass counts the entries above the
//           bracket and collects those inside, a few percent. A radix select of these, 11 bits at a time, finds it.
// Map:      bracket: one CTA of 1,024 threads for each head, 8 samples a thread. collect: one CTA of 256 threads for
//           each 8,192 neighbouring entries of a head. finish: one CTA of 1,024 threads for each head.
// Needs:    scores [heads, regions, regions] fp32; at most kMostBlocks regions; sm_80 on. Rule::row goes to
//           select_row.cu.
// Costs:    reads 4 * heads * regions^2 bytes once. If the bracket misses the score or holds too many entries (many
//           equal scores), and in maps of at most kWholeMap entries, finish reads all entries once for each digit
//           instead, which is slower for large maps.
// Numerics: integers throughout, so the same result on every run; -0 equals 0; infinities are scores; a NaN sets
//           the head's status. Ties are counted here and resolved by index in lists.cu.

#include "kernels/core/arguments.hpp"
#include "kernels/core/cuda_check.hpp"
#include "kernels/draft/draft.hpp"
#include "kernels/draft/find_digit.cuh"
#include "kernels/draft/selection.cuh"

namespace draft::gpu {
namespace {

constexpr int kDigitBits = 11, kBins = 1 << kDigitBits;
constexpr int kWideThreads = 1024;  // threads of bracket and finish
constexpr int kPerThread = kBins / kWideThreads;
constexpr int kCopies = 4;  // copies of a histogram: lanes that count in the same bin at once then rarely collide
constexpr int kSamples = 8 * kWideThreads;
constexpr std::uint32_t kWholeMap = 65536;  // entries

constexpr int kThreads = 256;  // threads of collect
constexpr int kLoads = 8;
constexpr std::uint32_t kChunk = kThreads * kLoads * 4;  // entries of a CTA
constexpr std::uint32_t kLocal = 1024;                   // candidates that fit a CTA's shared memory

/// A histogram of digits in shared memory, used by a whole CTA of kWideThreads threads.
struct Histogram {
  std::uint32_t bins[kCopies][kBins];
  std::uint32_t warp_sums[kWideThreads / 32];
  Digit answer;

  /// Sets all bins to 0. Called by all threads.
  __device__ void clear() {
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kCopies * kBins; i += kWideThreads) bins[i / kBins][i % kBins] = 0;
    __syncthreads();
  }
  __device__ void count(std::uint32_t digit) { atomicAdd(&bins[threadIdx.x % kCopies][digit], 1U); }
  /// Adds the copies up, so that find() can be called, any number of times. Called by all threads after the last
  /// count().
  __device__ void close() {
    __syncthreads();
    for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kWideThreads) {
#pragma unroll
      for (int copy = 1; copy < kCopies; ++copy) bins[0][bin] += bins[copy][bin];
    }
    __syncthreads();
  }
  __device__ Digit find(std::uint32_t wanted) {
    return find_digit<kWideThreads, kPerThread>(bins[0], wanted, warp_sums, answer);
  }
};

/// The two upper digits, in place, of the sample key whose first digit and rank among its candidates are `first`.
__device__ std::uint32_t sample_prefix(Histogram& histogram, const std::uint32_t (&keys)[kSamples / kWideThreads],
                                       Digit first) {
  constexpr int kFirst = 32 - kDigitBits, kSecond = kFirst - kDigitBits;
  histogram.clear();
  for (const std::uint32_t key : keys) {
    if (key >> kFirst == first.digit) histogram.count(key >> kSecond & (kBins - 1));
  }
  histogram.close();
  return first.digit << kFirst | histogram.find(first.wanted).digit << kSecond;
}

__global__ void __launch_bounds__(kWideThreads)
    bracket_kernel(std::uint32_t entries, std::uint32_t count, const float* __restrict__ scores, Bracket* brackets,
                   std::int32_t* status) {
  extern __shared__ __align__(16) unsigned char shared[];
  Histogram& histogram = *reinterpret_cast<Histogram*>(shared);
  const float* own = scores + static_cast<std::int64_t>(blockIdx.x) * entries;
  std::uint32_t keys[kSamples / kWideThreads];
#pragma unroll
  for (int i = 0; i < kSamples / kWideThreads; ++i) {
    // Fractional parts of multiples of the golden ratio are spread evenly, so that the sample favours no rows or
    // columns.
    const std::uint32_t sample = static_cast<std::uint32_t>(i) * kWideThreads + threadIdx.x;
    keys[i] = order_key(own[__umulhi(sample * 2654435769U, entries)]);
  }
  // The rank of the wanted score in a random sample has the standard deviation sqrt(samples * share * (1 - share)). The
  // bracket reaches 4.5 deviations and 16 ranks to each side. On each side it misses the score in at most one of
  // 300,000 heads; finish_kernel then reads the whole map.
  const float share = static_cast<float>(count) / static_cast<float>(entries);
  const float rank = share * kSamples, margin = 4.5F * sqrtf(rank * (1.0F - share)) + 16.0F;
  histogram.clear();
  for (const std::uint32_t key : keys) histogram.count(key >> (32 - kDigitBits));
  histogram.close();
  const float upper = floorf(rank - margin), lower = ceilf(rank + margin);
  const bool open_above = upper < 1.0F;
  const bool open_below = lower > kSamples;
  const Digit first_above = histogram.find(open_above ? 1U : static_cast<std::uint32_t>(upper));
  const Digit first_below = histogram.find(open_below ? 1U : static_cast<std::uint32_t>(lower));
  constexpr std::uint32_t kRest = (1U << (32 - 2 * kDigitBits)) - 1U;
  const std::uint32_t high = open_above ? ~0U : sample_prefix(histogram, keys, first_above) | kRest;
  const std::uint32_t low = open_below ? 0U : sample_prefix(histogram, keys, first_below);
  if (threadIdx.x == 0) {
    // No score has the key 0x7fffffff, one below the key of 0: it would be -0. collect compares scores, not keys, and
    // for it 0 <= -0, so 0 must be inside the bracket.
    brackets[blockIdx.x] = {low, high + (high == 0x7fffffffU ? 1U : 0U), 0, 0};
    status[blockIdx.x] = kFine;
  }
}

__global__ void __launch_bounds__(kThreads)
    collect_kernel(std::uint32_t entries, std::uint32_t capacity, const float* __restrict__ scores, Bracket* brackets,
                   Candidate* candidates, std::int32_t* status) {
  __shared__ Candidate local[kLocal];
  __shared__ std::uint32_t found, above, place;
  const int head = static_cast<int>(blockIdx.y), lane = static_cast<int>(threadIdx.x) % 32;
  const float* own = scores + static_cast<std::int64_t>(head) * entries;
  Candidate* list = candidates + static_cast<std::size_t>(head) * capacity;
  Bracket& bracket = brackets[head];
  const float low = score_of(bracket.low), high = score_of(bracket.high);
  const std::uint32_t first = blockIdx.x * kChunk, last = min(entries, first + kChunk);
  if (threadIdx.x == 0) found = above = 0;
  __syncthreads();

  bool found_nan = false;
  std::uint32_t own_above = 0;
  for (std::uint32_t start = first + threadIdx.x; start - threadIdx.x < last; start += kThreads * kLoads) {
    unsigned inside = 0;  // bit i: this thread's i-th entry is inside the bracket
    const auto look = [&](auto is_there) {
      float loaded[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) loaded[i] = is_there(i) ? own[start + i * kThreads] : -INFINITY;
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        found_nan |= loaded[i] != loaded[i];
        own_above += loaded[i] > high ? 1 : 0;
        inside |= loaded[i] >= low && loaded[i] <= high && is_there(i) ? 1U << i : 0U;
      }
    };
    if (start - threadIdx.x + kLoads * kThreads <= last) {
      look([](int) { return true; });
    } else {
      look([&](int i) { return start + i * kThreads < last; });
    }
    // Slots for this lane's candidates: one addition to `found` reserves slots for the warp, a prefix sum divides them.
    const std::uint32_t own_found = __popc(inside);
    std::uint32_t through = own_found;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
      const std::uint32_t other = __shfl_up_sync(~0U, through, distance);
      if (lane >= distance) through += other;
    }
    std::uint32_t slot = 0;
    if (lane == 31 && through != 0) slot = atomicAdd(&found, through);
    slot = __shfl_sync(~0U, slot, 31) + through - own_found;
    for (; inside != 0; inside &= inside - 1, ++slot) {
      const std::uint32_t index = start + (__ffs(static_cast<int>(inside)) - 1) * kThreads;
      const Candidate candidate{order_key(own[index]), index};
      if (slot < kLocal) {
        local[slot] = candidate;
      } else if (const std::uint32_t far = atomicAdd(&bracket.found, 1U); far < capacity) {
        list[far] = candidate;
      }
    }
  }
  if (found_nan) atomicOr(&status[head], kNaNScore);
  own_above = __reduce_add_sync(~0U, own_above);
  if (lane == 0 && own_above != 0) atomicAdd(&above, own_above);
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

/// `whole`: the map is small, so bracket and collect did not run and all its entries are candidates.
__global__ void __launch_bounds__(kWideThreads)
    finish_kernel(int regions, bool whole, std::uint32_t count, bool all_ties, std::uint32_t capacity,
                  const float* __restrict__ scores, const Bracket* __restrict__ brackets,
                  const Candidate* __restrict__ candidates, Threshold* thresholds, std::uint32_t* row_ties,
                  std::int32_t* status) {
  extern __shared__ __align__(16) unsigned char shared[];
  Histogram& histogram = *reinterpret_cast<Histogram*>(shared);
  const int head = static_cast<int>(blockIdx.x);
  const std::uint32_t size = static_cast<std::uint32_t>(regions) * static_cast<std::uint32_t>(regions);
  Entries entries{nullptr, scores + static_cast<std::int64_t>(head) * size, size};
  std::uint32_t low = 0, wanted = count;
  int bits = 32;  // lower bits of key - low that candidates differ in
  if (whole) {
    bool found_nan = false;
    for (std::uint32_t i = threadIdx.x; i < size; i += kWideThreads) found_nan |= is_nan(entries.scores[i]);
    const bool any = __syncthreads_or(found_nan ? 1 : 0) != 0;
    if (threadIdx.x == 0) status[head] = any ? kNaNScore : kFine;
  } else {
    const Bracket bracket = brackets[head];
    if (bracket.found <= capacity && bracket.above < count && count - bracket.above <= bracket.found) {
      entries.candidates = candidates + static_cast<std::size_t>(head) * capacity;
      entries.size = bracket.found;
      low = bracket.low;
      wanted = count - bracket.above;
      bits = max(32 - __clz(static_cast<int>(bracket.high - bracket.low)), 1);
    }
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
  const bool whole = entries <= kWholeMap;
  constexpr int kShared = sizeof(Histogram);
  static_assert(kShared <= 48 * 1024);
  if (!whole) {
    bracket_kernel<<<heads, kWideThreads, kShared, stream>>>(entries, count, scores, parts.brackets, status);
    check_launch("bracket_kernel");
    collect_kernel<<<dim3((entries + kChunk - 1) / kChunk, heads), kThreads, 0, stream>>>(
        entries, Workspace::capacity(layout), scores, parts.brackets, parts.candidates, status);
    check_launch("collect_kernel");
  }
  finish_kernel<<<heads, kWideThreads, kShared, stream>>>(layout.regions(), whole, count, cut.all_ties,
                                                          Workspace::capacity(layout), scores, parts.brackets,
                                                          parts.candidates, parts.thresholds, parts.row_ties, status);
  check_launch("finish_kernel");
}

}  // namespace draft::gpu
