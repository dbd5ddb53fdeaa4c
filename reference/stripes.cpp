#include "reference/stripes.hpp"

#include <cmath>
#include <limits>

#include "reference/careful_product.hpp"
#include "reference/norm.hpp"

namespace draft {
namespace {

// 128 rows keep a matrix product's inner loops long. 128 x 512 logits are half a megabyte, which with the rows of K and
// V fits into a second-level cache of a megabyte or more.
constexpr Index kRowChunk = 128;
constexpr Index kColumnSegment = 512;

std::vector<Run> runs(const Stripes& stripes, Index atoms, Index most) {
  std::vector<Run> out;
  for (Index atom = 0; atom < atoms; ++atom) {
    const Index size = stripes.atom_size(atom);
    const bool joins = !out.empty() && out.back().size + size <= most;
    if (!joins) out.push_back({atom, atom, stripes.atom_first(atom), 0});
    out.back().last_atom = atom + 1;
    out.back().size += size;
  }
  return out;
}

/// The largest error of a scaled logit, and so the largest relative error of P, that rounding of a product may cause.
constexpr double kMostRounding = 1e-9;

}  // namespace

void Stripes::logits(Index first_row, Index row_count, Index first_column, Index column_count, Matrix& out) const {
  out.resize(row_count, column_count);
  if (!careful) {
    out.noalias() = q.middleRows(first_row, row_count) * k.middleRows(first_column, column_count).transpose();
  }
  for (Index r = 0; r < row_count && careful; ++r) {
    const double* own = q.data() + (first_row + r) * q.cols();
    careful_products(own, k.data() + first_column * k.cols(), q.cols(), column_count, out.data() + r * column_count);
  }
  for (Index r = 0; r < row_count && grid.causal; ++r) {
    const Index seen = grid.seen(first_row + r, first_column, column_count);
    out.row(r).tail(column_count - seen).setConstant(-std::numeric_limits<double>::infinity());
  }
}

Stripes::Stripes(const Problem& problem, const Partition& finest)
    : grid(problem.grid),
      atoms(finest),
      scale(problem.scale),
      q(reorder(problem.q, finest)),
      k(reorder(problem.k, finest)),
      v(reorder(problem.v, finest)),
      rows(runs(*this, atom_count(), kRowChunk)),
      columns(runs(*this, column_atoms(), kColumnSegment)),
      careful(static_cast<double>(q.cols()) * std::numeric_limits<double>::epsilon() * scale * longest_row(q) *
                  longest_row(k) >
              kMostRounding) {}

}  // namespace draft
