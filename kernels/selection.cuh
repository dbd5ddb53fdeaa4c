#pragma once
// What find_thresholds leaves for write_lists: the scratch memory's parts, and scores as ordered integers.

#include <cstdint>

#include "kernels/kernels.hpp"

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

__device__ inline bool is_nan(float score) { return (__float_as_uint(score) & 0x7fffffffU) > 0x7f800000U; }

/// Digits of a key from its high end: 11, 11 and 10 bits.
inline constexpr int kDigits = 3;
inline constexpr int kBits[kDigits] = {11, 11, 10};
inline constexpr int kShift[kDigits] = {21, 10, 0};
inline constexpr int kBins = 1 << 11;  // of one histogram; the last digit uses half

/// Parts of the scratch memory, each aligned as its elements need.
struct Workspace {
  std::uint32_t* histograms;  // [kDigits, heads, kBins]
  std::uint32_t* row_ties;    // [heads, regions]
  Threshold* thresholds;      // [heads], or [heads, regions] where the rule goes by row

  Workspace(const Layout& layout, void* memory)
      : histograms(static_cast<std::uint32_t*>(memory)),
        row_ties(histograms + histogram_words(layout)),
        thresholds(reinterpret_cast<Threshold*>(row_ties + rows(layout))) {}

  static std::size_t histogram_words(const Layout& layout) {
    return static_cast<std::size_t>(kDigits) * layout.heads * kBins;
  }
  static std::size_t rows(const Layout& layout) { return static_cast<std::size_t>(layout.heads) * layout.regions(); }
  static std::size_t bytes(const Layout& layout) {
    return (histogram_words(layout) + rows(layout)) * sizeof(std::uint32_t) + rows(layout) * sizeof(Threshold);
  }
};

/// select_row.cu: thresholds [heads, regions] of the `count` largest scores of each block row.
void find_row_thresholds(const Layout& layout, std::uint32_t count, const float* scores, Threshold* thresholds,
                         std::int32_t* status, cudaStream_t stream);

}  // namespace draft::gpu
