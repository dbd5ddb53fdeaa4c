#pragma once
// Which kind of band a head has, spatial or temporal, from a sample of its rows: Sparse VideoGen's profile.

#include "experiments/policies/policy.hpp"

namespace draft {

inline constexpr Index kProfileRows = 64;

/// The layout in which the band changes the sampled rows' outputs less, raster or frame_last; raster if both change
/// them as much. `band` is over the blocks of 128 tokens of either; text is always kept. The rows are drawn from the
/// first `rows` tokens of the video and may repeat: splitmix64(splitmix64(splitmix64(seed) + stream) + t) modulo
/// `rows`, for t from 0. Of `input`: problem, as a dump has it, seed and stream.
BlockLayout better_layout_of_band(const PolicyInput& input, const BlockMask& band, Index rows);

/// Multiplications, additions and bytes: logits of the sampled rows, and outputs under no mask and two.
ChoiceCost cost_of_profile(const ChoiceSize& size);

/// Blocks of 128 tokens of a video.
Index blocks_of_row(const Grid& grid);

}  // namespace draft
