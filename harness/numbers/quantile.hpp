#pragma once
// Order statistics of samples.

#include <utility>
#include <vector>

namespace draft {

/// The value below which a share of the samples lies, by linear interpolation between the two nearest order statistics,
/// as NumPy's default. Throws std::invalid_argument without samples or unless 0 <= share <= 1.
double quantile(std::vector<double> samples, double share);

/// The middle sample, or the mean of the middle two. Throws std::invalid_argument without samples.
inline double median(std::vector<double> samples) { return quantile(std::move(samples), 0.5); }

}  // namespace draft
