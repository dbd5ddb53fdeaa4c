#pragma once
// The two-sample Smirnov test: are two sets of samples apart, whatever their distribution? One-sided: the share of
// `lower` at or below a cut, less the share of `upper`, at the cut where that is largest.

#include <cstdint>
#include <vector>

namespace draft {

/// That difference of shares times both counts, a whole number. Sorted samples; those of `upper` are moved up first.
std::int64_t smirnov_difference(const std::vector<double>& lower, const std::vector<double>& upper, double up = 0.0);

/// The chance of a difference of at least `least` (in those units, at least 1) between samples that could have come in
/// any order: the orders that have one, counted along the paths of a lattice, by recursion on their shares. Ties make
/// it smaller. Costs lower x upper steps.
double smirnov_chance(std::int64_t lower, std::int64_t upper, std::int64_t least);

}  // namespace draft
