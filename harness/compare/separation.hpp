#pragma once
// Whether the timing samples of two runs of one cell differ by more than their spread.
//
// One run is slower than the other if its median is larger by more than a ratio, and its low end lies above the
// other's high end. The ends are the order statistics of rank ceil(n / 10) from below and from above: the 10th and
// 90th percentiles, and the extremes of up to 10 samples. Comparing order statistics of two samples is a precedence
// test (Nelson, "Tables for a precedence life test", Technometrics 5, 1963): for samples that could have come in any
// order the chance of such a separation follows from counting alone, whatever their distribution. It was preferred to
// a rank-sum test, which calls any small drift significant once there are many samples, and flips with the share of
// samples taken at a lower clock; these widen the range between the ends and so count as spread here.
//
// A shift between runs that stays within the ratio is no finding: two runs on one machine can differ by that much
// without a change of code, and no test on the samples of one run can see it.

#include <cstddef>
#include <vector>

#include "harness/numbers/quantile.hpp"

namespace draft {

/// Fewer samples than this in one of the runs are never judged.
inline constexpr std::size_t kFewestSamples = 3;

enum class Shift { none, slower, faster, too_few };

struct ShiftRule {
  double ratio = 1.05;    // of the larger to the smaller median, at least
  std::size_t cells = 1;  // cells that are judged together: the more, the likelier one of them looks shifted by chance
};

/// Whether the run `after` is slower or faster than the run `before`; positive finite samples in any order and unit.
/// Where so few samples could be separated by chance in one of the rule's cells (chance x cells above 1%), the gap
/// between the ends must also be wider than the wider of the two ranges between the ends.
Shift shift(std::vector<double> before, std::vector<double> after, const ShiftRule& rule);

/// How far the samples `above`, of the same place and spread as they are, must be moved up for shift() to find them
/// separated from `below` among so many cells, its ratio left aside. At least one sample each.
double separating_shift(std::vector<double> below, std::vector<double> above, std::size_t cells);

/// The chance that the low end of `above` samples lies above the high end of `below` samples if all of them are
/// exchangeable and distinct (ties make it smaller). For 5 and 5 samples 1 / 252. Both at least 1.
double separation_chance(std::size_t below, std::size_t above);

}  // namespace draft
