#pragma once
// The scratch memory that find_thresholds fills and write_lists reads, and scores as integers of the same order.

#include <cstdint>

#include "kernels/draft/draft.hpp"

namespace draft::gpu {

/// The lowest kept score of a head or block row.
struct Threshold {
  std::uint32_t key;   // order_key of that score
  std::uint32_t kept;  // how many of the entries that equal it are kept, those of lowest index
  std::uint32_t ties;  // entries that equal it
};

/// An integer that compares as the score does, also for negative scores; -0 and 0 have the same key.
__device__ inline std::uint32_t order_key(float score) {
  const std::uint32_t bits = __float_as_uint(score);
  if ((bits << 1) == 0) return 0x80000000U;
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

/// The inverse of order_key; keys beyond those of the infinities give an infinity.
__device__ inline float score_of(std::uint32_t key) {
  constexpr std::uint32_t kLowest = 0x007fffffU, kHighest = 0xff800000U;  // keys of -infinity and infinity
  key = min(max(key, kLowest), kHighest);
  return __uint_as_float((key >> 31) != 0 ? key & 0x7fffffffU : ~key);
}

__device__ inline bool is_nan(float score) { return (__float_as_uint(score) & 0x7fffffffU) > 0x7f800000U; }

/// Two keys between which a head's threshold should lie, and collect's counts.
struct Bracket {
  std::uint32_t low, high;  // both are inside the bracket
  std::uint32_t above;      // entries above `high`
  std::uint32_t found;      // entries inside, including those beyond the capacity, which are not collected
};

/// An entry inside the bracket.
struct Candidate {
  std::uint32_t key, index;  // its order_key, and its row-major index in the head's map
};

/// Parts of the scratch memory, each aligned as its elements need.
struct Workspace {
  Candidate* candidates;    // [heads, capacity]
  Bracket* brackets;        // [heads]
  std::uint32_t* row_ties;  // [heads, regions]: ties in each block row; written only if not all ties are kept
  Threshold* thresholds;    // [heads], or [heads, regions] for Rule::row

  Workspace(const Layout& layout, void* memory)
      : candidates(static_cast<Candidate*>(memory)),
        brackets(reinterpret_cast<Bracket*>(candidates + static_cast<std::size_t>(layout.heads) * capacity(layout))),
        row_ties(reinterpret_cast<std::uint32_t*>(brackets + layout.heads)),
        thresholds(reinterpret_cast<Threshold*>(row_ties + rows(layout))) {}

  /// Room for a head's candidates: a bracket holds about 4% of the entries, this is 6% and more.
  static std::uint32_t capacity(const Layout& layout) {
    return static_cast<std::uint32_t>(layout.map_offset(1) / 16 + 4096);
  }
  static std::size_t rows(const Layout& layout) { return static_cast<std::size_t>(layout.heads) * layout.regions(); }
  static std::size_t bytes(const Layout& layout) {
    return static_cast<std::size_t>(layout.heads) * (capacity(layout) * sizeof(Candidate) + sizeof(Bracket)) +
           rows(layout) * (sizeof(std::uint32_t) + sizeof(Threshold));
  }
};

/// In select_row.cu. Writes the threshold of the `count` largest scores of each block row, [heads, regions].
void find_row_thresholds(const Layout& layout, std::uint32_t count, const float* scores, Threshold* thresholds,
                         std::int32_t* status, cudaStream_t stream);

}  // namespace draft::gpu
