#pragma once
// The random numbers of everything that must be the same on every machine.

#include <cstdint>

namespace draft {

/// splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): its state grows by this.
inline constexpr std::uint64_t kSplitMixStep = 0x9e3779b97f4a7c15ULL;

/// Its output function.
constexpr std::uint64_t splitmix_output(std::uint64_t state) {
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

/// The number that comes after `state`.
constexpr std::uint64_t splitmix64(std::uint64_t state) { return splitmix_output(state + kSplitMixStep); }

/// Where a head's numbers start: streams of one seed are independent.
constexpr std::uint64_t splitmix_start(std::uint64_t seed, std::uint64_t stream) {
  return splitmix64(splitmix64(seed) + stream);
}

}  // namespace draft
