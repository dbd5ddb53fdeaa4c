#include "reference/bounds/logit_sweep.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "reference/exponential.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr int kDroppedFractionBits = 52 - 8;

using RowArray = Eigen::Map<const Eigen::Array<double, 1, Eigen::Dynamic>>;

/// One thread's scratch memory and its histograms.
struct Worker {
  const Stripes& stripes;
  std::span<const DeviationRequest> requests;
  LogitStats& stats;
  Matrix logits;  // [chunk rows, segment columns]
  Matrix mass;    // [chunk rows, column atoms], sum of exp(scale (S - shift))
  Matrix shift;   // [chunk rows, segments], the largest S of a segment
  std::vector<LogHistogram> deviations;

  void chunk(const Run& rows);
  void block(const Run& rows, Index row_atom, const Run& columns, Index column_atom);
  void deviate(const DeviationRequest& request, LogHistogram& histogram, const Run& rows, Index row_atom,
               const Run& columns, Index column_atom) const;
  void normalise(const Run& rows);
};

RowArray row_piece(const Matrix& logits, Index row, Index first, Index size) {
  return {logits.data() + row * logits.cols() + first, size};
}

void Worker::block(const Run& rows, Index row_atom, const Run& columns, Index column_atom) {
  const Index top = stripes.atom_first(row_atom) - rows.first;
  const Index left = stripes.atom_first(column_atom) - columns.first;
  const Index height = stripes.atom_size(row_atom), width = stripes.atom_size(column_atom);
  double low = kInfinity, high = -kInfinity, sum = 0.0;
  for (Index r = top; r < top + height; ++r) {
    const RowArray s = row_piece(logits, r, left, width);
    low = std::min(low, s.minCoeff());
    high = std::max(high, s.maxCoeff());
    sum += s.sum();
  }
  // About the mean, not about 0: in smooth blocks deviations are far smaller than logits, and digits would cancel.
  const double mean = sum / static_cast<double>(height * width);
  double square = 0.0;
  for (Index r = top; r < top + height; ++r) square += (row_piece(logits, r, left, width) - mean).square().sum();
  stats.minimum(row_atom, column_atom) = low;
  stats.maximum(row_atom, column_atom) = high;
  stats.mean(row_atom, column_atom) = mean;
  stats.centred_square(row_atom, column_atom) = square;
}

void Worker::deviate(const DeviationRequest& request, LogHistogram& histogram, const Run& rows, Index row_atom,
                     const Run& columns, Index column_atom) const {
  if (stripes.grid.causal && request.parent[column_atom] >= request.parent[row_atom]) return;
  const double centre = request.pooled_logits(request.parent[row_atom], request.parent[column_atom]);
  const Index top = stripes.atom_first(row_atom) - rows.first;
  const Index left = stripes.atom_first(column_atom) - columns.first;
  for (Index r = top; r < top + stripes.atom_size(row_atom); ++r) {
    const RowArray s = row_piece(logits, r, left, stripes.atom_size(column_atom));
    for (Index c = 0; c < s.size(); ++c) histogram.add(std::abs(s[c] - centre));
  }
}

void Worker::chunk(const Run& rows) {
  const Index segments = static_cast<Index>(stripes.columns.size());
  mass.resize(rows.size, stripes.column_atoms());
  shift.resize(rows.size, segments);
  for (Index g = 0; g < segments; ++g) {
    const Run& columns = stripes.columns[g];
    stripes.logits(rows.first, rows.size, columns.first, columns.size, logits);
    for (Index b = columns.first_atom; b < std::min(columns.last_atom, stripes.atom_count()); ++b) {
      for (Index a = rows.first_atom; a < rows.last_atom; ++a) {
        if (b >= stripes.atoms.free_columns(a)) continue;
        block(rows, a, columns, b);
        for (std::size_t i = 0; i < requests.size(); ++i) deviate(requests[i], deviations[i], rows, a, columns, b);
      }
    }
    for (Index r = 0; r < rows.size; ++r) {
      auto s = logits.row(r).array();
      shift(r, g) = s.maxCoeff();
      s = stripes.scale * (s - std::max(shift(r, g), std::numeric_limits<double>::lowest()));
      exponentiate(logits.row(r).array());
      for (Index b = columns.first_atom; b < columns.last_atom; ++b) {
        mass(r, b) = row_piece(logits, r, stripes.atom_first(b) - columns.first, stripes.atom_size(b)).sum();
      }
    }
  }
  normalise(rows);
}

void Worker::normalise(const Run& rows) {
  for (Index r = 0; r < rows.size; ++r) {
    const double highest = shift.row(r).maxCoeff();
    double total = 0.0;
    for (std::size_t g = 0; g < stripes.columns.size(); ++g) {
      const Run& columns = stripes.columns[g];
      const auto piece = mass.row(r).segment(columns.first_atom, columns.last_atom - columns.first_atom);
      total += piece.sum() * std::exp(stripes.scale * (shift(r, static_cast<Index>(g)) - highest));
    }
    const double rest = std::log(total);
    stats.lse.highest[rows.first + r] = highest;
    stats.lse.rest[rows.first + r] = rest;
    for (std::size_t g = 0; g < stripes.columns.size(); ++g) {
      const Run& columns = stripes.columns[g];
      mass.row(r).segment(columns.first_atom, columns.last_atom - columns.first_atom) *=
          std::exp(stripes.scale * (shift(r, static_cast<Index>(g)) - highest) - rest);
    }
  }
  for (Index a = rows.first_atom; a < rows.last_atom; ++a) {
    const auto sums = mass.middleRows(stripes.atom_first(a) - rows.first, stripes.atom_size(a)).colwise().sum();
    stats.mass.row(a) = sums.head(stripes.atom_count());
    if (stripes.grid.text > 0) stats.text_mass[a] = sums[stripes.atom_count()];
  }
}

}  // namespace

void LogHistogram::add(double value, std::uint64_t times) {
  // Adding the largest value of the ignored bits rounds up, so that a value on a bin's edge belongs to the bin below
  // it.
  const auto bits = std::bit_cast<std::uint64_t>(value) + ((std::uint64_t{1} << kDroppedFractionBits) - 1);
  counts_[bits >> kDroppedFractionBits] += times;
}

void LogHistogram::add(const LogHistogram& other) {
  for (std::size_t bin = 0; bin < kBins; ++bin) counts_[bin] += other.counts_[bin];
}

double LogHistogram::quantile(double p) const {
  std::uint64_t total = 0;
  for (const std::uint64_t count : counts_) total += count;
  if (total == 0) throw std::logic_error("quantile of an empty histogram");
  const auto wanted = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(p * static_cast<double>(total))));
  std::uint64_t seen = 0;
  std::size_t bin = 0;
  while ((seen += counts_[bin]) < wanted) ++bin;
  return std::bit_cast<double>(static_cast<std::uint64_t>(bin) << kDroppedFractionBits);
}

LogitStats sweep_logits(const Stripes& stripes, std::span<const DeviationRequest> requests, int threads,
                        const Progress& progress) {
  const Index atoms = stripes.atom_count();
  LogitStats stats;
  for (Matrix* matrix : {&stats.minimum, &stats.maximum, &stats.mean, &stats.centred_square, &stats.mass}) {
    matrix->setZero(atoms, atoms);
  }
  stats.text_mass = Vector::Zero(atoms);
  stats.lse.resize(stripes.grid.video());
  stats.lse.scale = stripes.scale;
  stats.deviations.resize(requests.size());
  std::mutex merge;
  parallel_for(static_cast<Index>(stripes.rows.size()), threads, [&] {
    // A thread's histograms are merged when the last copy of its worker is destroyed. Counts are integers, so that the
    // order of merging does not change the result.
    auto worker = std::shared_ptr<Worker>(
        new Worker{stripes, requests, stats, {}, {}, {}, std::vector<LogHistogram>(requests.size())},
        [&stats, &merge](Worker* done) {
          const std::lock_guard lock(merge);
          for (std::size_t i = 0; i < done->deviations.size(); ++i) stats.deviations[i].add(done->deviations[i]);
          delete done;
        });
    return [&stripes, &progress, worker](Index item) {
      const Run& rows = stripes.rows[item];
      worker->chunk(rows);
      if (progress) progress(rows.size);
    };
  });
  return stats;
}

LogitStats coarsened(const LogitStats& fine, const Partition& atoms, const std::vector<Index>& parent, Index regions) {
  LogitStats coarse;
  coarse.minimum = Matrix::Constant(regions, regions, kInfinity);
  coarse.maximum = Matrix::Constant(regions, regions, -kInfinity);
  coarse.mean = coarse.centred_square = coarse.mass = Matrix::Zero(regions, regions);
  coarse.text_mass = Vector::Zero(regions);
  Matrix pairs = Matrix::Zero(regions, regions);
  const auto each = [&](auto&& visit) {
    for (Index a = 0; a < atoms.regions(); ++a) {
      for (Index b = 0; b < atoms.regions(); ++b) {
        visit(a, b, parent[a], parent[b], static_cast<double>(atoms.size(a) * atoms.size(b)));
      }
    }
  };
  each([&](Index a, Index b, Index i, Index j, double count) {
    coarse.minimum(i, j) = std::min(coarse.minimum(i, j), fine.minimum(a, b));
    coarse.maximum(i, j) = std::max(coarse.maximum(i, j), fine.maximum(a, b));
    coarse.mean(i, j) += count * fine.mean(a, b);
    coarse.mass(i, j) += fine.mass(a, b);
    pairs(i, j) += count;
  });
  coarse.mean.array() /= pairs.array();
  each([&](Index a, Index b, Index i, Index j, double count) {  // parallel-axis theorem
    const double offset = fine.mean(a, b) - coarse.mean(i, j);
    coarse.centred_square(i, j) += fine.centred_square(a, b) + count * offset * offset;
  });
  for (Index a = 0; a < atoms.regions(); ++a) coarse.text_mass[parent[a]] += fine.text_mass[a];
  return coarse;
}

}  // namespace draft
