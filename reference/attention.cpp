#include "reference/attention.hpp"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <vector>

#include "reference/exponential.hpp"
#include "reference/parallel.hpp"
#include "reference/stripes.hpp"

namespace draft {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
constexpr Index kMostRows = 256;     // text rows and long regions are cut into pieces of at most this many
constexpr Index kMostColumns = 512;  // see stripes.cpp

/// Rows that share their kept columns.
struct RowPiece {
  Index first, size;
  Index region;  // -1: text rows
};

struct Worker {
  const Stripes& stripes;
  const BlockMask& mask;
  const PooledRows* remainder;  // may be null
  Matrix& o;                    // region order
  Vector& lse;
  Matrix scaled_q, logits, sum;
  Vector highest, total;

  void piece(const RowPiece& rows);
  void add_kept(const RowPiece& rows);
  void add_dropped(const RowPiece& rows);
  void segment(const Matrix& k, const Matrix& v, Index first, Index size, const Vector* times, Index first_row);
};

/// Columns [first, first + size) of all keys and values `k`, `v`, each `times` over; null: once, as far as the row's
/// token may attend to them. `first_row`: the token of the first row.
void Worker::segment(const Matrix& k, const Matrix& v, Index first, Index size, const Vector* times, Index first_row) {
  logits.resize(scaled_q.rows(), size);
  logits.noalias() = scaled_q * k.middleRows(first, size).transpose();
  for (Index r = 0; r < logits.rows(); ++r) {
    const Index seen = times == nullptr ? stripes.grid.seen(first_row + r, first, size) : size;
    logits.row(r).tail(size - seen).setZero();  // as weights
    if (seen == 0) continue;
    auto s = logits.row(r).head(seen).array();
    const double risen = std::max(highest[r], s.maxCoeff());
    if (risen > highest[r]) {
      const double shrink = std::exp(highest[r] - risen);  // 0 for the first columns
      total[r] *= shrink;
      sum.row(r) *= shrink;
      highest[r] = risen;
    }
    s -= risen;
    exponentiate(logits.row(r).head(seen).array());
    // Not as + log(times) of the logit: beside a large logit that would be rounded away.
    if (times != nullptr) s *= times->segment(first, size).transpose().array();
    total[r] += s.sum();
  }
  sum.noalias() += logits * v.middleRows(first, size);
}

void Worker::piece(const RowPiece& rows) {
  scaled_q = stripes.scale * stripes.q.middleRows(rows.first, rows.size);
  sum.setZero(rows.size, stripes.v.cols());
  total.setZero(rows.size);
  highest.setConstant(rows.size, kMinusInfinity);
  add_kept(rows);
  if (remainder != nullptr && rows.region >= 0) add_dropped(rows);
  for (Index r = 0; r < rows.size; ++r) {
    const bool keeps = total[r] != 0.0;  // its largest weight is 1; NaN is passed on
    o.row(rows.first + r) = keeps ? (sum.row(r) / total[r]).eval() : Eigen::RowVectorXd::Zero(sum.cols()).eval();
    lse[rows.first + r] = keeps ? highest[r] + std::log(total[r]) : kMinusInfinity;
  }
}

void Worker::add_kept(const RowPiece& rows) {
  for (Index b = 0; b < stripes.column_atoms();) {
    // Neighbouring kept blocks are multiplied together: one product over many columns costs less than several.
    Index last = b;
    while (last < stripes.column_atoms() &&
           (last == stripes.atom_count() || rows.region < 0 || mask.kept(rows.region, last))) {
      ++last;
    }
    if (last == b) {
      ++b;
      continue;
    }
    const Index end =
        stripes.grid.seen(rows.first + rows.size - 1, 0, stripes.atom_first(last - 1) + stripes.atom_size(last - 1));
    for (Index first = stripes.atom_first(b); first < end; first += kMostColumns) {
      segment(stripes.k, stripes.v, first, std::min(kMostColumns, end - first), nullptr, rows.first);
    }
    b = last;
  }
}

void Worker::add_dropped(const RowPiece& rows) {
  std::vector<Index> dropped = mask.dropped(rows.region);
  std::erase_if(dropped, [&](Index column) { return column >= stripes.atoms.free_columns(rows.region); });
  const Matrix k = remainder->k(dropped, Eigen::all), v = remainder->v(dropped, Eigen::all);
  Vector sizes(static_cast<Index>(dropped.size()));
  for (std::size_t i = 0; i < dropped.size(); ++i) {
    sizes[static_cast<Index>(i)] = static_cast<double>(stripes.atom_size(dropped[i]));
  }
  for (Index first = 0; first < sizes.size(); first += kMostColumns) {
    segment(k, v, first, std::min(kMostColumns, sizes.size() - first), &sizes, rows.first);
  }
}

void require_pooled(const Matrix& rows, const char* name, const Partition& partition, const Problem& problem) {
  if (rows.rows() != partition.regions() || rows.cols() != problem.head_dim()) {
    throw std::invalid_argument(fmt::format("attend: wanted a remainder's {} of shape [{}, {}], found [{}, {}]", name,
                                            partition.regions(), problem.head_dim(), rows.rows(), rows.cols()));
  }
}

std::vector<RowPiece> row_pieces(const Stripes& stripes) {
  std::vector<RowPiece> pieces;
  const auto cut = [&](Index first, Index size, Index region) {
    for (Index done = 0; done < size; done += kMostRows) {
      pieces.push_back({first + done, std::min(kMostRows, size - done), region});
    }
  };
  for (Index region = 0; region < stripes.atom_count(); ++region) {
    cut(stripes.atom_first(region), stripes.atom_size(region), region);
  }
  cut(stripes.grid.video(), stripes.grid.text, -1);
  return pieces;
}

}  // namespace

PooledRows pooled_rows(const Problem& problem, const Partition& partition) {
  return {pool_regions(problem.k, partition, Pool::average), pool_regions(problem.v, partition, Pool::average)};
}

Output attend(const Problem& problem, const Partition& partition, const BlockMask& mask, int threads) {
  return attend(problem, partition, mask, nullptr, threads);
}

Output attend(const Problem& problem, const Partition& partition, const BlockMask& mask, const PooledRows* remainder,
              int threads) {
  require_valid(problem);
  if (partition.grid() != problem.grid || mask.regions() != partition.regions()) {
    throw std::invalid_argument(fmt::format("attend: wanted a mask of {} regions on grid {}, found {} regions on {}",
                                            partition.regions(), to_string(problem.grid), mask.regions(),
                                            to_string(partition.grid())));
  }
  if (remainder != nullptr) {
    require_pooled(remainder->k, "k", partition, problem);
    require_pooled(remainder->v, "v", partition, problem);
  }
  const Stripes stripes(problem, partition);
  const std::vector<RowPiece> pieces = row_pieces(stripes);
  Matrix o(problem.grid.tokens(), problem.v.cols());
  Vector lse(problem.grid.tokens());
  parallel_for(static_cast<Index>(pieces.size()), threads, [&] {
    auto worker = std::make_shared<Worker>(Worker{stripes, mask, remainder, o, lse, {}, {}, {}, {}, {}});
    return [&pieces, worker](Index item) { worker->piece(pieces[item]); };
  });
  return {restore(o, partition), restore(lse, partition)};
}

Output attend_dense(const Problem& problem, int threads) {
  const Partition partition(problem.grid, RegionSize{});
  return attend(problem, partition, BlockMask(partition.regions(), true), threads);
}

}  // namespace draft
