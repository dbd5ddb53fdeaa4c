// Rule:   a window of regions about one's own in (frame, region row, region column), moved inwards at the video's
//         edges. Source: sliding tile attention, arXiv 2502.04507; hao-ai-lab/FastVideo, branch sta_do_not_delete,
//         tests/support_flex_sta.py.
// Ours:   its tiles are 6 x 8 x 8 tokens and its windows were searched for each head of one model; tiles are regions
//         here, and windows grow alike on all axes, each axis by its number of regions.

#include <algorithm>
#include <cmath>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

struct Axis {
  Index tiles;
  Index longest;  // of all axes

  [[nodiscard]] Index half_width(Index step) const {
    return static_cast<Index>(
        std::floor(static_cast<double>(step * tiles) / (2.0 * static_cast<double>(longest)) + 0.5));
  }
  /// Whether b is in the window of a.
  [[nodiscard]] bool holds(Index step, Index a, Index b) const {
    const Index half = half_width(step);
    if (2 * half + 1 >= tiles) return true;
    return std::abs(std::clamp(a, half, tiles - 1 - half) - b) <= half;
  }
};

Matrix first_windows(const Partition& partition) {
  const Index frames = partition.grid().frames;
  const auto rows = static_cast<Index>(partition.row_starts().size());
  const auto columns = static_cast<Index>(partition.column_starts().size());
  const Index longest = std::max({frames, rows, columns});
  const Axis axes[] = {{frames, longest}, {rows, longest}, {columns, longest}};
  Matrix first(partition.regions(), partition.regions());
  for (Index i = 0; i < partition.regions(); ++i) {
    for (Index j = 0; j < partition.regions(); ++j) {
      const Index a[] = {i / (rows * columns), i / columns % rows, i % columns};
      const Index b[] = {j / (rows * columns), j / columns % rows, j % columns};
      Index step = 0;
      while (!(axes[0].holds(step, a[0], b[0]) && axes[1].holds(step, a[1], b[1]) && axes[2].holds(step, a[2], b[2]))) {
        ++step;  // ends: at step `longest` each axis holds all
      }
      first(i, j) = static_cast<double>(step);
    }
  }
  return first;
}

}  // namespace

PolicyRow sta_policy() {
  return {.summary = "a window of regions about one's own (sliding tile attention)",
          .reads = Reads::grid,
          .rank = [](const PolicyInput& input) { return rank_blocks(-first_windows(*input.partition), false); }};
}

}  // namespace draft
