#include "reference/bounds/remainder.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/exponential.hpp"

namespace draft {
namespace {

/// log cosh x, also where cosh overflows; x >= 0.
double log_cosh(double x) { return x + std::log1p(std::exp(-2.0 * x)) - std::log(2.0); }

/// 1 - e^(-x) for x >= 0, also where x is small.
double shortfall(double x) { return -std::expm1(-x); }

}  // namespace

CoarseRegions coarse_regions(const Problem& problem, const Partition& partition) {
  CoarseRegions regions{Vector(partition.regions()), pool_regions(problem.v, partition, Pool::average), {}};
  for (Index j = 0; j < partition.regions(); ++j) regions.sizes[j] = static_cast<double>(partition.size(j));
  regions.radii = region_radii(problem.k, partition, pool_regions(problem.k, partition, Pool::average));
  return regions;
}

RegionRows by_region(const AtomRows& atoms, const Stripes& stripes, const std::vector<Index>& parent,
                     const CoarseRegions& regions) {
  const Index rows = atoms.log_sum.rows(), count = regions.sizes.size();
  RegionRows out;
  out.mean = out.mass = out.centred = Matrix::Zero(rows, count);
  out.rise = Matrix::Constant(rows, count, -std::numeric_limits<double>::infinity());
  for (Index a = 0; a < stripes.atom_count(); ++a) {
    const Index j = parent[a];
    out.mean.col(j) += atoms.log_sum.col(a);
    out.mass.col(j) += atoms.mass.col(a);
    out.rise.col(j) = out.rise.col(j).cwiseMax(atoms.log_max.col(a));
  }
  const Eigen::RowVectorXd sizes = regions.sizes.transpose();
  out.mean.array().rowwise() /= sizes.array();
  out.rise = (out.rise - out.mean).cwiseMax(0.0);  // below 0 by rounding
  out.weight = out.mean;
  exponentiate(out.weight.array());
  out.weight.array().rowwise() *= sizes.array();
  for (Index a = 0; a < stripes.atom_count(); ++a) {  // parallel-axis theorem
    const auto size = static_cast<double>(stripes.atom_size(a));
    const Index j = parent[a];
    out.centred.col(j).array() +=
        atoms.centred.col(a).array() +
        size * (atoms.mass.col(a) / size - out.mass.col(j) / regions.sizes[j]).array().square();
  }
  return out;
}

RemainderBounds remainder_bounds(const RegionRows& rows, Index row, const CoarseRegions& regions,
                                 const std::vector<Index>& dropped, double text_mass, double reach) {
  RemainderBounds bounds{};
  double most_dropped = 0.0, gap = 0.0;
  for (const Index j : dropped) {
    const double rise = reach * regions.radii[j];
    bounds.bound += rows.mass(row, j) * shortfall(rows.rise(row, j));
    bounds.bound_radii += rows.mass(row, j) * shortfall(rise);
    gap += rows.mass(row, j) - rows.weight(row, j);
    most_dropped += regions.sizes[j] * std::exp(rows.mean(row, j) + log_cosh(rise));
  }
  gap = std::clamp(gap, 0.0, 1.0);  // outside by rounding
  bounds.bound_gap = std::sqrt(std::min(-0.5 * std::log1p(-gap), gap));
  double least_kept = text_mass;
  auto next = dropped.begin();
  for (Index j = 0; j < regions.sizes.size(); ++j) {
    if (next != dropped.end() && *next == j) {
      ++next;
    } else {
      least_kept += rows.weight(row, j);
    }
  }
  bounds.recall_bound = least_kept == 0.0 ? 0.0 : 1.0 / (1.0 + most_dropped / least_kept);
  return bounds;
}

RemainderError remainder_error(const RegionRows& rows, Index row, const CoarseRegions& regions,
                               const std::vector<Index>& dropped, double unit, double kept_mass, double kept_square) {
  RemainderError error{kept_mass, 0.0, 0.0};
  for (const Index j : dropped) {
    error.total += unit * rows.weight(row, j);
    error.gap += rows.mass(row, j) - rows.weight(row, j);
  }
  double square = kept_square * std::pow(error.gap / error.total, 2);
  for (const Index j : dropped) {
    const double apart = (rows.mass(row, j) - rows.weight(row, j) / error.total) / regions.sizes[j];
    square += rows.centred(row, j) + regions.sizes[j] * apart * apart;
  }
  error.probs_error = unit * std::sqrt(square);
  return error;
}

}  // namespace draft
