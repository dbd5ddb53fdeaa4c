#pragma once
// What find_thresholds leaves for write_lists: the scratch memory's parts, and scores as ordered integers.

#include <cstdint>

#include "kernels/draft/draft.hpp"

namespace draft::gpu {

/// The lowest kept score of a head or block row.
struct Threshold {
  std::uint32_t key;   // order_key of that score
  std::uint32_t kept;  // of the entries that equal it, the first `kept` by index stay
  std::uint32_t ties;  // entries that equal it
};

/// Keys order as scores do, negative ones too; -0 and 0 are one key.
__device__ inline std::uint32_t order_key(float score) {
  const std::uint32_t bits = __float_as_uint(score);
  if ((bits << 1) == 0) return 0x80000000U;
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

/// The score that has this key, or an infinity for keys beyond the infinities'.
__device__ inline float score_of(std::uint32_t key) {
  constexpr std::uint32_t kLowest = 0x007fffffU, kHighest = 0xff800000U;  // keys of -infinity and infinity
  key = min(max(key, kLowest), kHighest);
  return __uint_as_float((key >> 31) != 0 ? key & 0x7fffffffU : ~key);
}

__device__ inline bool is_nan(float score) { return (__float_as_uint(score) & 0x7fffffffU) > 0x7f800000U; }

/// Between which keys a head's threshold lies, and what a pass over the head found.
struct Bracket {
  std::uint32_t low, high;  // both inside
  std::uint32_t above;      // entries above `high`
  std::uint32_t found;      // entries inside, also those that were too many to be collected
};

struct Candidate {
  std::uint32_t key, index;  // of an entry in its head's map
};

/// Parts of the scratch memory, each aligned as its elements need.
struct Workspace {
  Candidate* candidates;    // [heads, capacity]
  Bracket* brackets;        // [heads]
  std::uint32_t* row_ties;  // [heads, regions]: entries that equal the threshold; only where not all of them are kept
  Threshold* thresholds;    // [heads], or [heads, regions] where the rule goes by row

  Workspace(const Layout& layout, void* memory)
      : candidates(static_cast<Candidate*>(memory)),
        brackets(reinterpret_cast<Bracket*>(candidates + static_cast<std::size_t>(layout.heads) * capacity(layout))),
        row_ties(reinterpret_cast<std::uint32_t*>(brackets + layout.heads)),
        thresholds(reinterpret_cast<Threshold*>(row_ties + rows(layout))) {}

  /// Of a head's candidates: a bracket is made to hold 4% of the entries.
  static std::uint32_t capacity(const Layout& layout) {
    return static_cast<std::uint32_t>(layout.map_offset(1) / 16 + 4096);
  }
  static std::size_t rows(const Layout& layout) { return static_cast<std::size_t>(layout.heads) * layout.regions(); }
  static std::size_t bytes(const Layout& layout) {
    return static_cast<std::size_t>(layout.heads) * (capacity(layout) * sizeof(Candidate) + sizeof(Bracket)) +
           rows(layout) * (sizeof(std::uint32_t) + sizeof(Threshold));
  }
};

/// select_row.cu: thresholds [heads, regions] of the `count` largest scores of each block row.
void find_row_thresholds(const Layout& layout, std::uint32_t count, const float* scores, Threshold* thresholds,
                         std::int32_t* status, cudaStream_t stream);

}  // namespace draft::gpu
