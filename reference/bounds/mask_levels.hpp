#pragma once
// Nested masks as one number for each block: its level, the first mask that keeps it.

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "reference/bounds/mask_sweep.hpp"

namespace draft {

using Level = std::uint8_t;

/// The levels of a family's blocks: the first mask that keeps a block, or `masks` if none does.
struct Levels {
  explicit Levels(const MaskFamily& family) : masks(family.cuts.size()) {
    if (masks >= 255) throw std::invalid_argument("mask family: wanted fewer than 255 masks");
    level.reserve(family.ranking.rank.size());
    for (const std::uint32_t rank : family.ranking.rank) {
      const auto first = std::upper_bound(family.cuts.begin(), family.cuts.end(), static_cast<Index>(rank));
      level.push_back(static_cast<Level>(first - family.cuts.begin()));
    }
  }

  std::size_t masks;
  std::vector<Level> level;  // [regions * regions]
};

}  // namespace draft
