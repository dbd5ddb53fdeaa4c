#pragma once
// The record format's metrics of one mask on one head, from what the sweeps returned.

#include "experiments/study/head.hpp"
#include "experiments/study/slack.hpp"

namespace draft {

struct MaskMeasurement {
  const Problem& problem;
  const Partition& partition;
  const BlockMask& mask;
  const MaskEffect& effect;
  const DenseSums& dense;
  MaskError error;  // mask_error(effect, ...) with the slack's rounding of outputs
  const Slack& slack;
  Units units = {};  // what problem, effect and dense are in
};

/// Share of the video x video logits that are computed, where blocks are of any size.
double kept_area(const Partition& partition, const BlockMask& mask);

/// Recall, counts, output errors and ||P - P^M||_F: every mask.
void append_mask_metrics(Metrics& metrics, const MaskMeasurement& measured);
/// Step 1 of Theorem 3.5 and what follows from mu alone: every mask.
void append_mask_bound_metrics(Metrics& metrics, const MaskMeasurement& measured);
/// Theorem 3.3: delta, its quantiles and certificate, both sides.
void append_pooling_metrics(Metrics& metrics, const Problem& problem, const PoolingError& pooling,
                            const LogHistogram& deviations, const Slack& slack, Units units = {});
/// Theorem 3.5 and the sharper bounds, after append_mask_bound_metrics: masks that were chosen by the map. Where such a
/// mask does not threshold the map (ThresholdBounds::thresholds) the theorem's ratios and checks are not applicable.
void append_threshold_metrics(Metrics& metrics, const MaskMeasurement& measured, const DraftMap& map,
                              const PoolingError& pooling, const std::vector<Index>& row_region);

/// What a pooled remainder costs and, `with_bounds`, its bounds of the error and of the recall
/// (reference/bounds/remainder.hpp): masks with one.
void append_remainder_metrics(Metrics& metrics, const MaskMeasurement& measured, bool with_bounds);
/// The slack's rounding of outputs under this mask.
OutputRounding output_rounding(const Slack& slack, const MaskEffect& effect);

/// Whether every check_* flag is 1 or not applicable.
bool all_checks_hold(const Metrics& metrics);

}  // namespace draft
