#include "experiments/policies/kmeans.hpp"

#include <algorithm>
#include <numeric>

#include "reference/parallel.hpp"
#include "reference/random.hpp"

namespace draft {
namespace {

constexpr Index kChunk = 1024;  // rows whose distances are held at once

Matrix first_centres(const Matrix& rows, Index clusters, std::uint64_t key) {
  std::vector<Index> order(static_cast<std::size_t>(rows.rows()));
  std::iota(order.begin(), order.end(), Index{0});
  std::ranges::stable_sort(order, {}, [&](Index row) { return splitmix64(key + static_cast<std::uint64_t>(row)); });
  order.resize(static_cast<std::size_t>(clusters));
  return rows(order, Eigen::all);
}

void find_nearest(const Matrix& rows, const Matrix& centres, std::vector<Index>& nearest) {
  const Vector half_squares = centres.rowwise().squaredNorm() / 2;
  parallel_for((rows.rows() + kChunk - 1) / kChunk, 0, [&] {
    return [&](Index chunk) {
      const Index first = chunk * kChunk, count = std::min(kChunk, rows.rows() - first);
      // |x - c|^2 = |x|^2 - 2 (<x, c> - |c|^2 / 2)
      Matrix closeness = rows.middleRows(first, count) * centres.transpose();
      closeness.rowwise() -= half_squares.transpose();
      for (Index row = 0; row < count; ++row) {
        closeness.row(row).maxCoeff(&nearest[static_cast<std::size_t>(first + row)]);
      }
    };
  });
}

}  // namespace

std::vector<Index> kmeans(const Matrix& rows, Index clusters, Index iterations, double tolerance, std::uint64_t key) {
  Matrix centres = first_centres(rows, clusters, key);
  std::vector<Index> nearest(static_cast<std::size_t>(rows.rows()), 0);
  for (Index iteration = 0; iteration < iterations; ++iteration) {
    find_nearest(rows, centres, nearest);
    Matrix means = Matrix::Zero(clusters, rows.cols());
    Vector sizes = Vector::Zero(clusters);
    for (Index row = 0; row < rows.rows(); ++row) {
      const Index centre = nearest[static_cast<std::size_t>(row)];
      means.row(centre) += rows.row(row);
      sizes[centre] += 1.0;
    }
    for (Index centre = 0; centre < clusters; ++centre) {
      if (sizes[centre] == 0.0) {
        means.row(centre) = centres.row(centre);
      } else {
        means.row(centre) /= sizes[centre];
      }
    }
    const double moved = (means - centres).rowwise().norm().maxCoeff();
    centres = std::move(means);
    if (moved < tolerance) break;
  }
  return nearest;
}

}  // namespace draft
