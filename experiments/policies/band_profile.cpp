#include "experiments/policies/band_profile.hpp"

#include <cmath>
#include <limits>

#include "reference/exponential.hpp"
#include "reference/random.hpp"

namespace draft {
namespace {

std::vector<Index> sampled_rows(const PolicyInput& input, Index rows) {
  const std::uint64_t start = splitmix_start(input.seed, input.stream);
  std::vector<Index> sample;
  for (std::uint64_t t = 0; t < static_cast<std::uint64_t>(kProfileRows); ++t) {
    sample.push_back(static_cast<Index>(splitmix64(start + t) % static_cast<std::uint64_t>(rows)));
  }
  return sample;
}

/// A row's output is 0 if nothing of it is kept.
Matrix outputs(Matrix logits, const Matrix& values) {
  for (Index row = 0; row < logits.rows(); ++row) {
    const double highest = logits.row(row).maxCoeff();
    auto weights = logits.row(row).array();
    if (highest == -std::numeric_limits<double>::infinity()) {
      weights.setZero();
    } else {
      weights -= highest;
      exponentiate(logits.row(row).array());  // what is left out is 0, not a denormal number
      weights /= weights.sum();
    }
  }
  return logits * values;
}

}  // namespace

Index blocks_of_row(const Grid& grid) { return (grid.video() + kRowOfTokens.width - 1) / kRowOfTokens.width; }

BlockLayout better_layout_of_band(const PolicyInput& input, const BlockMask& band, Index rows) {
  const Problem& problem = *input.problem;
  const std::vector<Index> sample = sampled_rows(input, rows);
  const Matrix queries = problem.q(sample, Eigen::all);
  const Matrix logits = problem.scale * (queries * problem.k.transpose());
  const Matrix whole = outputs(logits, problem.v);
  const auto error = [&](BlockLayout layout) {
    const std::vector<Index> tokens = places(problem.grid, layout);
    std::vector<Index> block_of(tokens.size());
    for (std::size_t place = 0; place < tokens.size(); ++place) {
      block_of[static_cast<std::size_t>(tokens[place])] = static_cast<Index>(place) / kRowOfTokens.width;
    }
    Matrix masked = logits;
    for (std::size_t row = 0; row < sample.size(); ++row) {
      const Index own = block_of[static_cast<std::size_t>(sample[row])];
      for (std::size_t token = 0; token < tokens.size(); ++token) {
        if (band.kept(own, block_of[token])) continue;
        masked(static_cast<Index>(row), static_cast<Index>(token)) = -std::numeric_limits<double>::infinity();
      }
    }
    return (whole - outputs(std::move(masked), problem.v)).squaredNorm();
  };
  return error(BlockLayout::frame_last) < error(BlockLayout::raster) ? BlockLayout::frame_last : BlockLayout::raster;
}

ChoiceCost cost_of_profile(const ChoiceSize& size) {
  const double product = 2 * static_cast<double>(kProfileRows) * size.tokens * size.head_dim;
  return {.flops = 4 * product, .bytes = 2 * 2 * size.tokens * size.head_dim};  // K and V once
}

}  // namespace draft
