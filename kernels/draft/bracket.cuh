#pragma once
// The first two steps of the selection of a head's largest scores (select.cu): a bracket from a sample, and a pass that
// counts the entries above it and collects those inside.

#include "kernels/draft/find_digit.cuh"
#include "kernels/draft/selection.cuh"

namespace draft::gpu {

constexpr int kDigitBits = 11, kBins = 1 << kDigitBits;
constexpr int kWideThreads = 1024;  // threads of a CTA that has a histogram
constexpr int kPerThread = kBins / kWideThreads;
constexpr int kCopies = 4;  // copies of a histogram: lanes that count in the same bin at once then rarely collide
constexpr int kSamples = 8 * kWideThreads;

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
__device__ inline std::uint32_t sample_prefix(Histogram& histogram,
                                              const std::uint32_t (&keys)[kSamples / kWideThreads], Digit first) {
  constexpr int kFirst = 32 - kDigitBits, kSecond = kFirst - kDigitBits;
  histogram.clear();
  for (const std::uint32_t key : keys) {
    if (key >> kFirst == first.digit) histogram.count(key >> kSecond & (kBins - 1));
  }
  histogram.close();
  return first.digit << kFirst | histogram.find(first.wanted).digit << kSecond;
}

/// A bracket, with nothing counted yet, in which the `count`-th largest of `own`'s entries almost surely lies. Called
/// by all threads of a CTA of kWideThreads.
__device__ inline Bracket sample_bracket(Histogram& histogram, std::uint32_t entries, std::uint32_t count,
                                         const float* own) {
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
  // 300,000 heads; the whole map is then read for each digit.
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
  // No score has the key 0x7fffffff, one below the key of 0: it would be -0. collect compares scores, not keys, and for
  // it 0 <= -0, so 0 must be inside the bracket.
  return {low, high + (high == 0x7fffffffU ? 1U : 0U), 0, 0};
}

/// Goes through the entries from `first` to `last`, in a CTA of kThreads threads: adds those above the bracket to
/// `above`, in shared memory, and calls keep(slot, candidate) for those inside, with slots from `found`, in shared
/// memory, on. Returns whether this thread met a NaN. `found` and `above` are complete after the next __syncthreads().
template <int kThreads, typename Keep>
__device__ bool collect(const float* __restrict__ own, std::uint32_t first, std::uint32_t last, const Bracket& bracket,
                        std::uint32_t& found, std::uint32_t& above, Keep keep) {
  constexpr int kLoads = 8;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float low = score_of(bracket.low), high = score_of(bracket.high);
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
      keep(slot, Candidate{order_key(own[index]), index});
    }
  }
  own_above = __reduce_add_sync(~0U, own_above);
  if (lane == 0 && own_above != 0) atomicAdd(&above, own_above);
  return found_nan;
}

}  // namespace draft::gpu
