#pragma once
// Which metrics are errors of a kernel, and the growth of such an error that is no more than rounding.

#include <string>

#include "harness/record/record.hpp"

namespace draft {

/// Names of errors for which lower is better: kernel_* ending in rel_l1, rel_l2 or max_abs, and *_over_tolerance.
bool is_kernel_error(const std::string& metric);

/// An error as a share of what is allowed: above 1 is a failure.
bool is_share_of_tolerance(const std::string& metric);

/// The growth of an error up to which it is no regression, in the metric's own unit, for this record's config.element
/// (float32 where it names none). With u for the element's unit roundoff:
/// - relative errors, and absolute ones of outputs of order one: u / 8, less than the rounding of O costs by itself;
/// - *_lse_*, in nats: 8 u of float32 whatever the element, half a unit in the last place of a log-sum-exp in [8, 16);
/// - *_over_tolerance, in tolerances: 1 / 16.
double accuracy_floor(const std::string& metric, const Json& record);

}  // namespace draft
