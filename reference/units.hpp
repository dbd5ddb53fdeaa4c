#pragma once
// A head is divided by powers of two before it is measured, so that squares and sums of its numbers are in float64's
// range if its logits are. Multiplying by a power of two rounds nothing.

#include <optional>

#include "reference/problem.hpp"

namespace draft {

/// The units of a measured head's numbers: S is 2^logit times the measured number, V and O are 2^value times.
struct Units {
  int logit = 0;
  int value = 0;
  [[nodiscard]] double of_logits(double measured) const;
  [[nodiscard]] double of_values(double measured) const;
};

struct Normalised {
  Problem problem;  // q, k and v of at most 2; scale S is the same
  Units units;
};

/// The head with its largest numbers near 1, or nullopt if they are within [2^-20, 2^21) or 0, so that nothing need be
/// changed. Numbers below 2^-1022 of their tensor's largest become 0.
std::optional<Normalised> normalised(const Problem& problem);

/// Throws std::invalid_argument that names the tensors, the bound and what was found, if a number is not finite or if
/// a logit, the theorems' multiples of one (up to 8 head_dim tokens max|q| max|k|) or a difference of outputs could
/// leave float64's range.
void require_measurable(const Problem& problem);

}  // namespace draft
