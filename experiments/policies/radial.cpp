// Rule:   tokens D frames apart attend within a distance in the frame that halves with every power of two of D: blocks
//         (i, j) in token order with |place i - place j| <= gamma * 2^(b(HW) - b(D)), b the length in bits; D <= 1 as
//         D = 0, b = 0.
// Source: Radial Attention, arXiv 2506.19852; mit-han-lab/radial-attention 72788d4, radial_attn/attn_mask.py.
//         Released: gamma 0.95 (HunyuanVideo), whole frames for D <= 1, windows of 128 at least. Windows of e < 128
//         keep the frames with D a multiple of floor(128 / e) alone.
// Ours:   a block stands for its middle token, where the released code keeps a block by the density of its columns. At
//         a budget gamma is what meets it, of D <= 1 too, and frames are not left out.

#include <algorithm>
#include <bit>
#include <cmath>

#include "experiments/policies/scores.hpp"

namespace draft {
namespace {

constexpr double kReleasedGamma = 0.95, kLeastWindow = 128.0;

struct Pair {
  Index frames;     // apart
  double distance;  // of the places in their frames
  double window;    // at gamma = 1
};

Pair pair_of(const PolicyInput& input, Index i, Index j) {
  const Partition& partition = *input.partition;
  const Index a_frame = input.grid->frame_tokens();
  const auto middle = [&](Index block) { return partition.offset(block) + partition.size(block) / 2; };
  const auto bits = [](Index value) { return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(value))); };
  const Index frames = std::abs(middle(i) / a_frame - middle(j) / a_frame);
  return {.frames = frames,
          .distance = static_cast<double>(std::abs(middle(i) % a_frame - middle(j) % a_frame)),
          .window = std::ldexp(1.0, bits(a_frame) - (frames <= 1 ? 0 : bits(frames)))};
}

Matrix of_pairs(const PolicyInput& input, double (*value)(const Pair& pair)) {
  Matrix found(input.regions, input.regions);
  for (Index i = 0; i < input.regions; ++i) {
    for (Index j = 0; j < input.regions; ++j) found(i, j) = value(pair_of(input, i, j));
  }
  return found;
}

}  // namespace

PolicyRow radial_policy() {
  return {.summary = "windows that halve with the distance in time (Radial Attention)",
          .layout = BlockLayout::raster,
          .reads = Reads::grid,
          .rank =
              [](const PolicyInput& input) {
                return rank_blocks(-of_pairs(input, [](const Pair& pair) { return pair.distance / pair.window; }),
                                   false);
              },
          .released =
              [](const PolicyInput& input) {
                const Matrix kept = of_pairs(input, [](const Pair& pair) {
                  if (pair.frames <= 1) return 1.0;
                  const auto every = static_cast<Index>(std::max(kLeastWindow / pair.window, 1.0));
                  const double window = std::max(pair.window * kReleasedGamma, kLeastWindow);
                  return pair.frames % every == 0 && pair.distance <= window ? 1.0 : 0.0;
                });
                return mask_above(kept, 0.5, BlockMask(input.regions, false));
              }};
}

}  // namespace draft
