#pragma once
// The numbers of E4M3, and the weights of attention that are made of their codes.
//
// A positive number of E4M3 is a byte, its code: 8 times the exponent plus the mantissa. Powers of two apart, the code
// is linear in the number, so it is about 8 log2 of it (N. Schraudolph, "A Fast, Compact Approximation of the
// Exponential Function", Neural Computation 11, 1999). A kernel that wants 2^x in E4M3 may round 8 x to a whole number
// and take that as the code: no exponential is computed.

#include <numbers>

namespace draft {

/// Nearest number of E4M3: 4 significant bits, ties to even, smallest normal number 2^-6, spacing 2^-9 below, and 448
/// in place of all that is larger. NaN stays NaN.
double to_e4m3(double x);

/// The number of E4M3 whose code is 8 (log2_weight + 7), rounded to the nearest whole number, ties to even, and limited
/// to 0 to 126: (1 + f) 2^i for i + f = log2_weight rounded to eighths, 0 <= f < 1. It is about kCodedMean
/// 2^log2_weight, unless it is below 2^-6: there codes count multiples of 2^-9, and go to 0 much faster than 2^x. NaN
/// stays NaN.
double coded_weight(double log2_weight);

/// The mean of (1 + f) 2^-f, by which coded weights are too large: between powers of two the code is linear in the
/// number. The sum over a row is too large by it, and O is not.
inline constexpr double kCodedMean = 0.5 / (std::numbers::ln2 * std::numbers::ln2);  // 1.0407
/// Below this a weight's log2 has a code below 8: rounded to eighths it is below -6.
inline constexpr double kLeastLog2Weight = -6.0 - 1.0 / 16;

/// log2 of the weight of a logit that is the shift. The shift is the row's running maximum, or up to kWeightSlack
/// octaves less: it is raised once a code is above 126, 8 (8.125 + 0.6875 + 7) rounded. A multiple of 1/8 for the
/// offset makes the code of a logit at the shift exact, and 2^0.125 is 1.0905, which its code stands for
/// as 1.125: 1.032 times, near kCodedMean. The heaviest weight of most rows then errs by 0.9%.
inline constexpr double kWeightOffset = 8.125, kWeightSlack = 0.6875;

}  // namespace draft
