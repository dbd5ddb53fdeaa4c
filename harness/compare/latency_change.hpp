#pragma once
// What the timing samples of two runs of the same cells say: which cells became slower or faster, how far all of them
// moved together, and how small a change could have been seen.
//
// Model, in logarithms: the shift of cell i is d_i = drift + moved_i + noise_i + change_i. Noise comes from the samples
// of both runs. moved_i is what a cell does from run to run (an address, a clock, a neighbour): the samples of one run
// do not show it, the spread over cells does. Most cells have no change_i. From this:
// - d_i is the difference of the trimmed means of the logarithms, a fifth of the samples left out at either end: hardly
//   less precise than a mean, and neither an outlier nor a share of samples at another clock throws it far. Its own
//   variance is Yuen's ("The two-sample trimmed t for unequal population variances", Biometrika 61, 1974).
// - Cells that stand out: the generalized extreme studentized deviate test (Rosner, "Percentage points for a
//   generalized ESD many-outlier procedure", Technometrics 25, 1983). It takes the most extreme cell out, again and
//   again, up to half of them, so that changed cells do not hide each other. A false alarm among normal d_i has the
//   chance kFamilyChance, for all cells together. The spread is at least the noise that the samples tell.
//   Where half of the cells or more changed, none stands out: cells that share a part of their config are compared with
//   the others, and shifts that are two clusters with a gap between them are parted.
// - Drift and its interval: mean and Student's t of the cells that do not stand out.
// - A cell that stands out is changed only if its samples are apart as well, after the drift: the two-sample Smirnov
//   test (Gnedenko and Korolyuk 1951 give its chances by counting; no distribution is assumed), with a cut that has at
//   least kLeastApart of either run on its own side. Runs at two clocks have wide spreads in d_i without being apart.
//   With cells that move from run to run, part of the shift (twice their spread, at most half of it) is granted first.
//   Where so few samples have no significant order, they must be apart completely.
// - The limit on the ratio is practical, no statistics: a smaller change is none, however sure.
//
// Below kFewestCells cells their spread tells little. They are then judged one by one by shift() (separation.hpp), and
// a drift is a change of each.
//
// The smallest change that is found in about 19 of 20 comparisons is the largest of these thresholds, each with what is
// needed above it for that: 1.645 standard errors of a shift, and what the threshold itself scatters from one pair of
// runs to the next.

#include <cstddef>
#include <optional>
#include <vector>

#include "harness/compare/separation.hpp"

namespace draft {

inline constexpr std::size_t kFewestCells = 8;
inline constexpr double kFamilyChance = 0.001;
inline constexpr double kLeastApart = 0.8;

/// The samples of one cell in the two runs: kFewestSamples or more each, positive and finite, in any order and unit.
struct CellSamples {
  std::vector<double> before, after;
};

struct CellChange {
  double ratio = 1.0;       // after / before
  double detectable = 1.0;  // the smallest ratio, above 1, that would have been found
  Shift shift = Shift::none;
};

/// What the cells without a change of their own did together.
struct CommonDrift {
  double ratio = 1.0, low = 1.0, high = 1.0;  // and its 95% interval
  double spread = 0.0;                        // standard deviation of log ratios from cell to cell, noise included
  std::size_t cells = 0;
  Shift shift = Shift::none;  // surely beyond the ratio (chance below 1%)
};

/// Cells that share something and moved against the others; none of them stands out alone, for they are too many.
struct GroupChange {
  std::size_t group = 0;             // its place in what was asked for
  double ratio = 1.0, others = 1.0;  // of the group, of the cells outside it
  Shift shift = Shift::none;
};

struct LatencyChanges {
  std::vector<CellChange> cells;     // in the order of the samples
  std::optional<CommonDrift> drift;  // none with fewer than kFewestCells cells
  std::optional<GroupChange> group;  // the one that moved most surely
};

/// Judges all cells together. A cell is slower (faster) if its shift beyond the drift, or where the drift is within the
/// ratio its whole shift, is larger than the ratio and it is changed in the sense above. `groups`: places of cells that
/// share a part of their config or input; one of them is changed if its mean differs from the others' by more than the
/// ratio and by Student's t at kFamilyChance over all groups, and is itself larger than the ratio.
LatencyChanges judge_latencies(const std::vector<CellSamples>& cells, double ratio,
                               const std::vector<std::vector<std::size_t>>& groups = {});

}  // namespace draft
