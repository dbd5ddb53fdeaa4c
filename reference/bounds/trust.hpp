#pragma once
// Below which masses a row of the second sweep is computed again.

namespace draft {

/// If a row keeps less mass than this, the squares of its probabilities underflow, and in the end the mass itself,
/// although the softmax over the kept columns is well defined. Such rows are computed again with their own maximum.
inline constexpr double kTrustedMass = 1e-100;

/// If a row drops less mass than this, O - O^M computed as a difference is all rounding. It is then computed as
/// mu (O^D - O^M), where O^D is the output of a softmax over the dropped columns alone.
inline constexpr double kTrustedDifference = 1e-14;

}  // namespace draft
