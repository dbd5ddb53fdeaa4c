#include "reference/bounds/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace draft {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// 1 / (1 + odds), where odds = kept / dropped is infinite if nothing is dropped.
double dropped_share(double odds) { return 1.0 / (1.0 + odds); }

/// s/(1-s) e^(-2 delta): the odds on eq. 10's right side.
double threshold_odds(double kept_fraction, double delta) {
  if (kept_fraction >= 1.0) return kInfinity;
  return kept_fraction / (1.0 - kept_fraction) * std::exp(-2.0 * delta);
}

/// Leaves the blocks that a mask is free to drop.
void zero_unless_free(Matrix& of_blocks, const Partition& partition) {
  for (Index i = 0; i < partition.regions(); ++i) {
    of_blocks.row(i).tail(partition.regions() - partition.free_columns(i)).setZero();
  }
}

/// log sum exp; -infinity for no terms.
double log_sum(const std::vector<double>& terms) {
  if (terms.empty()) return -kInfinity;
  const double highest = *std::max_element(terms.begin(), terms.end());
  double sum = 0.0;
  for (const double term : terms) sum += std::exp(term - highest);
  return highest + std::log(sum);
}

/// sqrt(2 sum mu_u^2), with mu_u bounded for each block row by the deviations of its own blocks.
double bound_from_blocks(const Partition& partition, const DraftMap& map, const Matrix& block_delta,
                         const BlockMask& mask) {
  Vector row(partition.regions());  // sqrt(size) mu
  std::vector<double> kept, dropped;
  for (Index i = 0; i < partition.regions(); ++i) {
    kept.clear();
    dropped.clear();
    for (Index j = 0; j < partition.free_columns(i); ++j) {
      const double count = std::log(static_cast<double>(partition.size(j)));
      if (mask.kept(i, j)) {
        kept.push_back(count + map.scale * (map.logits(i, j) - block_delta(i, j)));
      } else {
        dropped.push_back(count + map.scale * (map.logits(i, j) + block_delta(i, j)));
      }
    }
    const double mu = dropped.empty() ? 0.0 : dropped_share(std::exp(log_sum(kept) - log_sum(dropped)));
    row[i] = std::sqrt(static_cast<double>(partition.size(i))) * mu;
  }
  return std::sqrt(2.0) * safe_norm(row);
}

/// Whether the mask keeps the largest S~ of every block row, up to the rounding of exp and its argument.
bool thresholds_rows(const DraftMap& map, const BlockMask& mask) {
  constexpr double kRounding = 1e-12;
  for (Index i = 0; i < mask.regions(); ++i) {
    double kept = kInfinity, dropped = -kInfinity;
    for (Index j = 0; j < (map.causal ? i : mask.regions()); ++j) {
      const double logit = map.scale * map.logits(i, j);
      if (mask.kept(i, j)) {
        kept = std::min(kept, logit);
      } else {
        dropped = std::max(dropped, logit);
      }
    }
    const double largest = map.scale * map.logits.row(i).cwiseAbs().maxCoeff();
    if (dropped - kept > kRounding * (1.0 + largest)) return false;
  }
  return true;
}

}  // namespace

PoolingError pooling_error(const Problem& problem, const Partition& partition, const DraftMap& map, Pool pool,
                           const LogitStats& stats) {
  const Index g = partition.regions();
  PoolingError error{};
  error.block_delta = (stats.maximum - map.logits).cwiseMax(map.logits - stats.minimum).cwiseMax(0.0);
  zero_unless_free(error.block_delta, partition);
  error.delta = error.block_delta.maxCoeff(&error.block_row, &error.block_column);
  double square = 0.0, pairs = 0.0, blocks = 0.0, half = 0.0;
  for (Index i = 0; i < g; ++i) {
    for (Index j = 0; j < partition.free_columns(i); ++j) {
      const auto own = static_cast<double>(partition.size(i) * partition.size(j));
      const double offset = stats.mean(i, j) - map.logits(i, j);
      square += stats.centred_square(i, j) + own * offset * offset;
      pairs += own;
      blocks += 1.0;
      half += error.block_delta(i, j) >= 0.5 * error.delta ? 1.0 : 0.0;
    }
  }
  error.frobenius = std::sqrt(square);
  error.bound = error.delta * std::sqrt(pairs);
  error.half_block_share = half / blocks;
  const Matrix q = pool_regions(problem.q, partition, pool), k = pool_regions(problem.k, partition, pool);
  const Vector rq = region_radii(problem.q, partition, q), rk = region_radii(problem.k, partition, k);
  error.block_radii = rq * k.rowwise().norm().transpose() + q.rowwise().norm() * rk.transpose() + rq * rk.transpose();
  zero_unless_free(error.block_radii, partition);
  error.delta_radii = error.block_radii.maxCoeff();
  return error;
}

KeptTokens kept_tokens(const Partition& partition, const BlockMask& mask) {
  KeptTokens result{Vector::Zero(partition.regions()), 1.0};
  for (Index i = 0; i < partition.regions(); ++i) {
    const Index free = partition.free_columns(i), all = partition.offset(free);
    Index kept = 0;
    for (Index j = 0; j < free; ++j) kept += mask.kept(i, j) ? partition.size(j) : 0;
    result.kept_fraction[i] = all == 0 ? 1.0 : static_cast<double>(kept) / static_cast<double>(all);
  }
  result.smallest = result.kept_fraction.minCoeff();
  return result;
}

MaskError mask_error(const Problem& problem, const MaskEffect& effect) {
  return mask_error(effect, longest_row(problem.v));
}

MaskError mask_error(const MaskEffect& effect, double longest_value, OutputRounding rounding) {
  const double n = static_cast<double>(effect.dropped.size());
  MaskError error{};
  error.probs_frobenius = safe_norm(effect.probs_error);
  error.trivial_bound = std::sqrt(2.0 * n);
  error.max_dropped = effect.dropped.maxCoeff();
  error.mean_dropped = effect.dropped.mean();
  error.step_1_bound = 2.0 * std::sqrt(n) * error.max_dropped;
  error.bound_sharp_mu = std::sqrt(2.0) * safe_norm(effect.dropped);
  error.output_error_max = effect.output_error.maxCoeff();
  const Vector& variation = effect.remainder ? effect.remainder->bound : effect.dropped;
  for (Index u = 0; u < effect.dropped.size(); ++u) {
    const double row_error = effect.output_error[u];
    if (row_error <= rounding.ignored * longest_value) continue;
    const double bound = 2.0 * variation[u] * longest_value;
    error.output_ratio_max = std::max(error.output_ratio_max, row_error / bound);
    error.output_judged_max = std::max(error.output_judged_max, (row_error - rounding.noise * longest_value) / bound);
  }
  return error;
}

ThresholdBounds threshold_bounds(const Partition& partition, const DraftMap& map, const PoolingError& pooling,
                                 const BlockMask& mask, const MaskEffect& effect, const std::vector<Index>& row_region,
                                 Units units) {
  const double n = static_cast<double>(partition.grid().video());
  const double delta = pooling.delta * map.scale;
  const KeptTokens tokens = kept_tokens(partition, mask);
  ThresholdBounds bounds{};
  bounds.bound = 2.0 * std::sqrt(n) * dropped_share(threshold_odds(tokens.smallest, delta));
  bounds.bound_paper_delta =
      2.0 * std::sqrt(n) * dropped_share(threshold_odds(tokens.smallest, units.of_logits(pooling.delta)));
  bounds.bound_sharp = std::sqrt(2.0 * n) * dropped_share(threshold_odds(tokens.smallest, delta));
  bounds.bound_blocks = bound_from_blocks(partition, map, pooling.block_delta, mask);
  bounds.bound_radii = bound_from_blocks(partition, map, pooling.block_radii, mask);
  for (Index u = 0; u < effect.dropped.size(); ++u) {
    if (effect.dropped[u] == 0.0) continue;
    const double allowed = dropped_share(threshold_odds(tokens.kept_fraction[row_region[u]], delta));
    bounds.step_2_ratio = std::max(bounds.step_2_ratio, effect.dropped[u] / allowed);
  }
  bounds.thresholds = thresholds_rows(map, mask);
  return bounds;
}

}  // namespace draft
