#include "reference/mask_sweep.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "reference/mask_levels.hpp"
#include "reference/masked_row.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

/// Below this kept mass exp(S - lse) has lost digits or vanished, though softmax over the kept blocks
/// is well defined: such rows are computed again with their own maximum.
constexpr double kTrustedMass = 1e-280;

/// Step 1's identity is summed element by element on one token in this many: n^2 work a mask otherwise.
constexpr Index kCheckedEvery = 128;

/// Sums over a chunk that are added up in chunk order afterwards, so that threads do not show.
struct ChunkSums {
  DenseSums dense;
  std::vector<std::vector<MaskEffect>> effects;  // row vectors left empty
};

struct Worker {
  const Stripes& stripes;
  const Vector& lse;
  const std::vector<Levels>& families;
  MaskSweep& result;
  Matrix probs;                 // [chunk rows, segment columns]
  Matrix mass, square;          // sum of P and of P^2 by row and column atom
  Matrix product;               // P_block V_block, [chunk rows, head_dim]
  Matrix dense;                 // [chunk rows, head_dim]
  Matrix text;                  // the text columns' part of it
  std::vector<Index> checked;   // rows of the chunk whose P is kept whole
  Matrix checked_probs;         // [checked rows, tokens]
  std::vector<std::vector<Matrix>> kept;  // [family][level], unnormalised output first kept at that level

  void chunk(const Run& rows, ChunkSums& sums);
  void multiply(const Run& rows, const Run& columns, Index atom);
  void family(const Run& rows, std::size_t f, ChunkSums& sums);
  void row(const Run& rows, Index r, std::size_t f, std::size_t m, double kept_mass, double dropped_mass,
           double kept_square, double dropped_square, MaskEffect& sums);
  void check_row(Index place, Index row_atom, std::size_t f, std::size_t m, double kept_mass, double dropped_mass,
                 MaskEffect& sums) const;
};

/// Whole rows lie side by side: one long vector addition instead of one a row.
void add_rows(Matrix& sum, const Matrix& term, Index top, Index height) {
  const Index first = top * sum.cols(), size = height * sum.cols();
  Eigen::Map<Eigen::ArrayXd>(sum.data() + first, size) += Eigen::Map<const Eigen::ArrayXd>(term.data() + first, size);
}

void Worker::multiply(const Run& rows, const Run& columns, Index atom) {
  const Index first = stripes.atom_first(atom), size = stripes.atom_size(atom);
  product.noalias() = probs.middleCols(first - columns.first, size) * stripes.v.middleRows(first, size);
  dense += product;
  if (atom == stripes.atom_count()) {
    text = product;
    return;
  }
  for (Index a = rows.first_atom; a < rows.last_atom; ++a) {
    const Index top = stripes.atom_first(a) - rows.first, height = stripes.atom_size(a);
    for (std::size_t f = 0; f < families.size(); ++f) {
      const Level level = families[f].at(a, atom);
      if (level < families[f].masks) add_rows(kept[f][level], product, top, height);
    }
  }
}

void Worker::chunk(const Run& rows, ChunkSums& sums) {
  const Index dim = stripes.q.cols();
  mass.resize(rows.size, stripes.column_atoms());
  square.resize(rows.size, stripes.column_atoms());
  checked.clear();
  for (Index r = 0; r < rows.size; ++r) {
    if (stripes.atoms.order()[rows.first + r] % kCheckedEvery == 0) checked.push_back(r);
  }
  checked_probs.resize(static_cast<Index>(checked.size()), stripes.grid.tokens());
  dense.setZero(rows.size, dim);
  text.setZero(rows.size, dim);
  product.resize(rows.size, dim);
  for (auto& levels : kept) {
    for (Matrix& output : levels) output.setZero(rows.size, dim);
  }
  for (const Run& columns : stripes.columns) {
    probs.resize(rows.size, columns.size);
    probs.noalias() =
        stripes.q.middleRows(rows.first, rows.size) * stripes.k.middleRows(columns.first, columns.size).transpose();
    for (Index r = 0; r < rows.size; ++r) {
      auto p = probs.row(r).array();
      p = (stripes.scale * p - lse[rows.first + r]).exp();
      for (Index b = columns.first_atom; b < columns.last_atom; ++b) {
        const auto piece = probs.row(r).segment(stripes.atom_first(b) - columns.first, stripes.atom_size(b));
        mass(r, b) = piece.sum();
        square(r, b) = piece.squaredNorm();
      }
    }
    for (std::size_t i = 0; i < checked.size(); ++i) {
      checked_probs.row(static_cast<Index>(i)).segment(columns.first, columns.size) = probs.row(checked[i]);
    }
    for (Index b = columns.first_atom; b < columns.last_atom; ++b) multiply(rows, columns, b);
  }
  sums.dense = {dense.squaredNorm(), dense.cwiseAbs().sum(), dense.minCoeff(), dense.maxCoeff()};
  sums.effects.resize(families.size());
  for (std::size_t f = 0; f < families.size(); ++f) family(rows, f, sums);
}

void Worker::family(const Run& rows, std::size_t f, ChunkSums& sums) {
  const Levels& levels = families[f];
  sums.effects[f].resize(levels.masks);
  for (std::size_t m = 1; m < levels.masks; ++m) kept[f][m] += kept[f][m - 1];
  std::vector<double> by_mass(levels.masks + 1), by_square(levels.masks + 1);
  Index next_checked = 0;
  for (Index a = rows.first_atom; a < rows.last_atom; ++a) {
    for (Index u = stripes.atom_first(a); u < stripes.atom_first(a) + stripes.atom_size(a); ++u) {
      const Index r = u - rows.first;
      std::fill(by_mass.begin(), by_mass.end(), 0.0);
      std::fill(by_square.begin(), by_square.end(), 0.0);
      for (Index b = 0; b < stripes.atom_count(); ++b) {
        const Level level = levels.at(a, b);
        by_mass[level] += mass(r, b);
        by_square[level] += square(r, b);
      }
      const bool is_checked = next_checked < checked_probs.rows() && checked[next_checked] == r;
      const bool has_text = stripes.grid.text > 0;
      double kept_mass = has_text ? mass(r, stripes.atom_count()) : 0.0;
      double kept_square = has_text ? square(r, stripes.atom_count()) : 0.0;
      for (std::size_t m = 0; m < levels.masks; ++m) {
        kept_mass += by_mass[m];
        kept_square += by_square[m];
        // Summed from the dropped side: 1 - kept would lose a small mu's digits.
        double dropped_mass = 0.0, dropped_square = 0.0;
        for (std::size_t l = levels.masks; l > m; --l) {
          dropped_mass += by_mass[l];
          dropped_square += by_square[l];
        }
        row(rows, r, f, m, kept_mass, dropped_mass, kept_square, dropped_square, sums.effects[f][m]);
        if (is_checked) check_row(next_checked, a, f, m, kept_mass, dropped_mass, sums.effects[f][m]);
      }
      if (is_checked) ++next_checked;
    }
  }
}

void Worker::row(const Run& rows, Index r, std::size_t f, std::size_t m, double kept_mass, double dropped_mass,
                 double kept_square, double dropped_square, MaskEffect& sums) {
  const Index u = rows.first + r;
  MaskEffect& effect = result.effects[f][m];
  effect.dropped[u] = dropped_mass;
  effect.kept[u] = kept_mass;
  Eigen::RowVectorXd sparse = Eigen::RowVectorXd::Zero(stripes.q.cols());
  double kept_error2 = 0.0;  // sum over kept v of (P - P^M)^2
  if (kept_mass >= kTrustedMass) {
    const double grown = dropped_mass / kept_mass;  // P^M = P (1 + grown) on kept entries
    kept_error2 = grown * grown * kept_square;
    sparse = (kept[f][m].row(r) + text.row(r)) / kept_mass;
  } else {
    const MaskedRow exact = masked_row(stripes, u, [&](Index row_atom, Index column_atom) {
      return column_atom == stripes.atom_count() || families[f].at(row_atom, column_atom) <= m;
    });
    sparse = exact.output;          // zero where the row keeps nothing
    kept_error2 = exact.probs_square;  // P is nothing beside P^M there
  }
  effect.probs_error2[u] = dropped_square + kept_error2;
  const auto error = (dense.row(r) - sparse).eval();
  effect.output_error2[u] = error.squaredNorm();
  sums.output_error1 += error.lpNorm<1>();
  sums.output_dot += dense.row(r).dot(sparse);
  sums.output_square += sparse.squaredNorm();
}

void Worker::check_row(Index place, Index row_atom, std::size_t f, std::size_t m, double kept_mass,
                       double dropped_mass, MaskEffect& sums) const {
  if (kept_mass < kTrustedMass) return;
  double l1 = 0.0;
  for (Index b = 0; b < stripes.column_atoms(); ++b) {
    const bool is_kept = b == stripes.atom_count() || families[f].at(row_atom, b) <= m;
    const auto p = checked_probs.row(place).segment(stripes.atom_first(b), stripes.atom_size(b)).array();
    l1 += is_kept ? (p / kept_mass - p).abs().sum() : p.sum();
  }
  sums.row_l1_max = std::max(sums.row_l1_max, l1);
  sums.row_l1_residual = std::max(sums.row_l1_residual, std::abs(l1 - 2.0 * dropped_mass));
  ++sums.rows_checked;
}

void add(DenseSums& total, const DenseSums& part) {
  total.square += part.square;
  total.absolute += part.absolute;
  total.lowest = std::min(total.lowest, part.lowest);
  total.highest = std::max(total.highest, part.highest);
}

void add(MaskEffect& total, const MaskEffect& part) {
  total.output_error1 += part.output_error1;
  total.output_dot += part.output_dot;
  total.output_square += part.output_square;
  total.row_l1_max = std::max(total.row_l1_max, part.row_l1_max);
  total.row_l1_residual = std::max(total.row_l1_residual, part.row_l1_residual);
  total.rows_checked += part.rows_checked;
}

}  // namespace

MaskSweep sweep_masks(const Stripes& stripes, const Vector& lse, std::span<const MaskFamily> families, int threads,
                      const Progress& progress) {
  const std::vector<Levels> levels(families.begin(), families.end());
  const Index video = stripes.grid.video();
  MaskSweep result;
  result.dense.lowest = std::numeric_limits<double>::infinity();
  result.dense.highest = -result.dense.lowest;
  for (const Levels& family : levels) {
    MaskEffect blank;
    blank.dropped = blank.kept = blank.probs_error2 = blank.output_error2 = Vector::Zero(video);
    result.effects.emplace_back(family.masks, blank);
  }
  std::vector<ChunkSums> sums(stripes.rows.size());
  parallel_for(static_cast<Index>(stripes.rows.size()), threads, [&] {
    auto worker = std::make_shared<Worker>(Worker{stripes, lse, levels, result, {}, {}, {}, {}, {}, {}, {}, {}, {}});
    for (const Levels& family : levels) worker->kept.emplace_back(family.masks);
    return [&stripes, &sums, &progress, worker](Index item) {
      worker->chunk(stripes.rows[item], sums[item]);
      if (progress) progress(stripes.rows[item].size);
    };
  });
  for (const ChunkSums& part : sums) {
    add(result.dense, part.dense);
    for (std::size_t f = 0; f < levels.size(); ++f) {
      for (std::size_t m = 0; m < levels[f].masks; ++m) add(result.effects[f][m], part.effects[f][m]);
    }
  }
  return result;
}

}  // namespace draft
