#pragma once
// Lloyd's k-means: groups of rows about their means.

#include <cstdint>
#include <vector>

#include "reference/problem.hpp"

namespace draft {

/// Starts at `clusters` different rows, those of the least splitmix64(key + row), the least first; then each row goes
/// to the nearest centre (Euclid; of equally near ones the first) and each centre to its rows' mean, `iterations` times
/// or until no centre moves by `tolerance`. A centre without rows stays. Returns each row's centre, [rows], as the last
/// iteration found it. `clusters` is from 1 to the number of rows.
std::vector<Index> kmeans(const Matrix& rows, Index clusters, Index iterations, double tolerance, std::uint64_t key);

}  // namespace draft
