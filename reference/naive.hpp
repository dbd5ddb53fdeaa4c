#pragma once
// For tests only: attention by its definition, with n x n matrices, and random problems.

#include <cmath>
#include <limits>
#include <random>

#include "reference/draft_mask.hpp"

namespace draft::naive {

/// Standard normal numbers times `spread`; reproducible for one standard library.
inline Problem random_problem(const Grid& grid, Index dim, double spread, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal(0.0, spread);
  const auto fill = [&] {
    Matrix m(grid.tokens(), dim);
    for (Index i = 0; i < m.size(); ++i) m.data()[i] = normal(engine);
    return m;
  };
  Problem problem;
  problem.grid = grid;
  problem.q = fill();
  problem.k = fill();
  problem.v = fill();
  problem.scale = 1.0 / std::sqrt(static_cast<double>(dim));
  problem.source = "random problem";
  return problem;
}

/// Every query gives the logit X to the first 16 keys and 0 to all others; the scale is 1 and V is random. X / 4 and 2
/// are the factors, in two channels, so that float16 and fp32 hold a large X exactly.
inline Problem one_block_holds_all(const Grid& grid, Index dim, double logit) {
  Problem problem = random_problem(grid, dim, 1.0, 3);
  problem.scale = 1.0;
  problem.q.setZero();
  problem.k.setZero();
  problem.q.leftCols(2).setConstant(2.0);
  problem.k.topLeftCorner(16, 2).setConstant(logit / 4.0);
  problem.source = "one block";
  return problem;
}

/// Largest |a - b|, infinity if any is NaN.
inline double distance(const Matrix& a, const Matrix& b) {
  const Matrix difference = a - b;
  return difference.hasNaN() ? std::numeric_limits<double>::infinity() : difference.cwiseAbs().maxCoeff();
}

/// A head's shape and the size of its regions.
struct Shape {
  Grid grid;
  RegionSize region;
  Index dim;
};

/// 1 if query token u sees key token v in dense attention, else 0; token order, [tokens, tokens].
inline Matrix seen(const Grid& grid) {
  Matrix out = Matrix::Ones(grid.tokens(), grid.tokens());
  if (grid.causal) out = out.triangularView<Eigen::Lower>().toDenseMatrix();
  return out;
}

/// The same under a mask.
inline Matrix allowed(const Partition& partition, const BlockMask& mask) {
  const Grid& grid = partition.grid();
  const std::vector<Index> region = partition.region_of_token();
  Matrix out = seen(grid);
  for (Index u = 0; u < grid.video(); ++u) {
    for (Index v = 0; v < grid.video(); ++v) out(u, v) *= mask.kept(region[u], region[v]) ? 1.0 : 0.0;
  }
  return out;
}

/// Softmax over the allowed columns; rows without any are zero.
inline Matrix probabilities(const Problem& problem, const Matrix& allowed) {
  Matrix p = problem.scale * (problem.q * problem.k.transpose());
  for (Index u = 0; u < p.rows(); ++u) {
    double highest = -std::numeric_limits<double>::infinity();
    for (Index v = 0; v < p.cols(); ++v) {
      if (allowed(u, v) > 0) highest = std::max(highest, p(u, v));
    }
    double sum = 0.0;
    for (Index v = 0; v < p.cols(); ++v) {
      p(u, v) = allowed(u, v) > 0 ? std::exp(p(u, v) - highest) : 0.0;
      sum += p(u, v);
    }
    if (sum > 0.0) p.row(u) /= sum;
  }
  return p;
}

/// Scaled logits, those of each dropped block replaced by their row's mean in it: what a pooled remainder means.
/// -infinity for keys that a causal query does not see; its mask keeps the diagonal.
inline Matrix remainder_logits(const Problem& problem, const Partition& partition, const BlockMask& mask) {
  Matrix s = problem.scale * (problem.q * problem.k.transpose());
  const std::vector<Index> region = partition.region_of_token();
  for (Index u = 0; u < problem.grid.video(); ++u) {
    Vector mean = Vector::Zero(partition.regions());
    for (Index v = 0; v < problem.grid.video(); ++v) mean[region[v]] += s(u, v);
    for (Index v = 0; v < problem.grid.video(); ++v) {
      if (problem.grid.causal && v > u) {
        s(u, v) = -std::numeric_limits<double>::infinity();
      } else if (!mask.kept(region[u], region[v])) {
        s(u, v) = mean[region[v]] / static_cast<double>(partition.size(region[v]));
      }
    }
  }
  return s;
}

}  // namespace draft::naive
