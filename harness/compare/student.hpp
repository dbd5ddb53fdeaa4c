#pragma once
// Quantiles of the normal and of Student's t distribution.

namespace draft {

/// The z that a standard normal number exceeds with this chance. 0 < chance < 1.
double normal_upper(double chance);

/// The t that a number of Student's distribution with `freedom` degrees, at least 1, exceeds with this chance,
/// 0 < chance <= 0.5. Up to 200 degrees to rounding of the finite series (Abramowitz and Stegun 26.7.3, 26.7.4), beyond
/// to four terms of the expansion in 1 / freedom (26.7.5), better than 1e-6 for chances of 1e-9 and more.
double student_upper(double chance, int freedom);

}  // namespace draft
