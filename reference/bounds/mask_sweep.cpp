#include "reference/bounds/mask_sweep.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <optional>

#include "reference/bounds/mask_levels.hpp"
#include "reference/bounds/masked_row.hpp"
#include "reference/bounds/remainder_sweep.hpp"
#include "reference/bounds/trust.hpp"
#include "reference/exponential.hpp"
#include "reference/norm.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

/// Step 1's identity is checked element by element on one token in this many: on all of them it would be n^2 work for
/// each mask.
constexpr Index kCheckedEvery = 128;

/// The levels of a family: at(a, b) is the first mask that keeps the block of atoms a and b, or `masks` if none does.
struct AtomLevels : Levels {
  AtomLevels(const MaskFamily& family, const std::vector<Index>& parents, bool is_causal)
      : Levels(family),
        partition(family.partition),
        regions(family.ranking.regions),
        parent(&parents),
        remainder(family.remainder),
        causal(is_causal) {}
  [[nodiscard]] Level at(Index row_atom, Index column_atom) const {
    return level[static_cast<std::size_t>((*parent)[row_atom] * regions + (*parent)[column_atom])];
  }

  /// The regions that have these levels in an atom's row, of a causal grid those before its own, ascending.
  [[nodiscard]] std::vector<Index> columns(Index row_atom, Level lowest, Level highest) const {
    std::vector<Index> found;
    const Level* own = level.data() + (*parent)[row_atom] * regions;
    for (Index j = 0; j < (causal ? (*parent)[row_atom] : regions); ++j) {
      if (own[j] >= lowest && own[j] <= highest) found.push_back(j);
    }
    return found;
  }

  std::size_t partition;
  Index regions;
  const std::vector<Index>* parent;  // atom -> region
  const CoarseRegions* remainder;    // may be null
  bool causal;
};

/// Sums over a chunk. They are added up in the order of chunks afterwards, so that results do not depend on threads.
struct ChunkSums {
  DenseSums dense;
  std::vector<std::vector<MaskEffect>> effects;  // row vectors left empty
};

/// The sums of P and of P^2 over the columns of one row that a mask keeps, or drops.
struct Part {
  double mass = 0.0, square = 0.0;
};

/// One row under one mask.
struct MaskedPlace {
  Index row_atom, row;  // the row's atom, and its index in the chunk
  std::size_t family, mask;
  Index checked;  // its index among the checked rows, or -1
};

struct Worker {
  const Stripes& stripes;
  const LogSums& lse;
  const std::vector<AtomLevels>& families;
  std::span<const std::vector<Index>> parents;  // [partition]
  MaskSweep& result;
  Matrix probs;                                  // [chunk rows, segment columns]
  Matrix mass, square;                           // sums of P and of P^2, [chunk rows, column atoms]
  Matrix product;                                // P_block V_block, [chunk rows, head_dim]
  Matrix dense;                                  // [chunk rows, head_dim]
  Matrix text;                                   // the text columns' part of `dense`
  std::vector<Index> checked;                    // rows of the chunk that are checked, whose P is stored
  Matrix checked_probs;                          // [checked rows, tokens]
  std::vector<std::vector<Matrix>> kept;         // [family][level], unnormalised output of the blocks of that level
  std::vector<std::vector<Matrix>> coarse_sums;  // [family][mask], the remainder of the blocks that the mask drops
  std::vector<const CoarseRegions*> coarse;      // [partition], null where no family has a remainder
  std::optional<RemainderSweep> remainder;       // if any has
  Matrix row_logits;                             // logits of row `logits_of`, [1, tokens]
  Index logits_of = -1;                          // a row's position in region order

  void chunk(const Run& rows, ChunkSums& sums);
  void multiply(const Run& rows, const Run& columns, Index atom);
  void family(const Run& rows, std::size_t f, ChunkSums& sums);
  void sum_remainders(const Run& rows, std::size_t f);
  void row(const Run& rows, const MaskedPlace& place, const Part& keeps, const Part& drops, MaskEffect& sums);
  void remainder_row(const Run& rows, const MaskedPlace& place, const Part& keeps, const Part& drops,
                     const std::vector<Index>& dropped, MaskEffect& sums);
  void check_row(const MaskedPlace& place, double kept_mass, double dropped_mass, const MaskedRow* exact,
                 MaskEffect& sums) const;
  [[nodiscard]] bool is_kept(const MaskedPlace& place, Index column_atom) const {
    return column_atom == stripes.atom_count() || families[place.family].at(place.row_atom, column_atom) <= place.mask;
  }
  MaskedRow own_softmax(Index row, const std::function<bool(Index)>& columns);
};

/// Adds rows [top, top + height). They are contiguous in memory, so one long vector addition does for all.
void add_rows(Matrix& sum, const Matrix& term, Index top, Index height) {
  const Index first = top * sum.cols(), size = height * sum.cols();
  Eigen::Map<Eigen::ArrayXd>(sum.data() + first, size) += Eigen::Map<const Eigen::ArrayXd>(term.data() + first, size);
}

/// A row's sparse output and its error, `norm` included.
void add_output(const Eigen::RowVectorXd& sparse, const Eigen::RowVectorXd& error, const Eigen::RowVectorXd& dense,
                double& norm, MaskEffect& sums) {
  norm = safe_norm(error);
  sums.output_error1 += error.lpNorm<1>();
  sums.output_dot += dense.dot(sparse);
  sums.output_norm = std::hypot(sums.output_norm, safe_norm(sparse));
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
  if (remainder) remainder->start(rows);
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
    stripes.logits(rows.first, rows.size, columns.first, columns.size, probs);
    for (Index r = 0; r < rows.size; ++r) {
      auto p = probs.row(r).array();
      p = stripes.scale * (p - lse.highest[rows.first + r]) - lse.rest[rows.first + r];
      if (remainder) remainder->add_logs(r, columns, probs);
      exponentiate(probs.row(r).array());
      for (Index b = columns.first_atom; b < columns.last_atom; ++b) {
        const auto piece = probs.row(r).segment(stripes.atom_first(b) - columns.first, stripes.atom_size(b));
        mass(r, b) = piece.sum();
        square(r, b) = piece.squaredNorm();
        if (remainder) {
          const double mean = mass(r, b) / static_cast<double>(piece.size());
          remainder->add_probs(r, b, mass(r, b), (piece.array() - mean).square().sum());
        }
      }
    }
    for (std::size_t i = 0; i < checked.size(); ++i) {
      checked_probs.row(static_cast<Index>(i)).segment(columns.first, columns.size) = probs.row(checked[i]);
    }
    for (Index b = columns.first_atom; b < columns.last_atom; ++b) multiply(rows, columns, b);
  }
  sums.dense = {safe_norm(dense), dense.cwiseAbs().sum(), dense.minCoeff(), dense.maxCoeff()};
  if (remainder) remainder->finish(parents, coarse);
  sums.effects.resize(families.size());
  for (std::size_t f = 0; f < families.size(); ++f) family(rows, f, sums);
}

void Worker::family(const Run& rows, std::size_t f, ChunkSums& sums) {
  const AtomLevels& levels = families[f];
  sums.effects[f].resize(levels.masks);
  if (levels.remainder != nullptr) {
    for (MaskEffect& effect : sums.effects[f]) effect.remainder.emplace();
    sum_remainders(rows, f);
  }
  for (std::size_t m = 1; m < levels.masks; ++m) kept[f][m] += kept[f][m - 1];
  std::vector<double> by_mass(levels.masks + 1), by_square(levels.masks + 1);
  Index next_checked = 0;
  std::vector<std::vector<Index>> dropped(levels.masks);
  for (Index a = rows.first_atom; a < rows.last_atom; ++a) {
    if (levels.remainder != nullptr) {
      for (std::size_t m = 0; m < levels.masks; ++m) {
        dropped[m] = levels.columns(a, static_cast<Level>(m + 1), static_cast<Level>(levels.masks));
      }
    }
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
      Part keeps;
      if (stripes.grid.text > 0) keeps = {mass(r, stripes.atom_count()), square(r, stripes.atom_count())};
      for (std::size_t m = 0; m < levels.masks; ++m) {
        keeps.mass += by_mass[m];
        keeps.square += by_square[m];
        Part drops;  // summed over what is dropped: 1 - kept would lose the digits of a small mu
        for (std::size_t l = levels.masks; l > m; --l) {
          drops.mass += by_mass[l];
          drops.square += by_square[l];
        }
        const MaskedPlace place{a, r, f, m, is_checked ? next_checked : -1};
        if (levels.remainder != nullptr) {
          remainder_row(rows, place, keeps, drops, dropped[m], sums.effects[f][m]);
        } else {
          row(rows, place, keeps, drops, sums.effects[f][m]);
        }
      }
      if (is_checked) ++next_checked;
    }
  }
}

void Worker::sum_remainders(const Run& rows, std::size_t f) {
  const AtomLevels& levels = families[f];
  for (Matrix& sum : coarse_sums[f]) sum.setZero(rows.size, stripes.v.cols());
  for (Index a = rows.first_atom; a < rows.last_atom; ++a) {
    const Index top = stripes.atom_first(a) - rows.first, height = stripes.atom_size(a);
    for (std::size_t m = levels.masks; m-- > 0;) {
      auto sum = coarse_sums[f][m].middleRows(top, height);
      const auto level = static_cast<Level>(m + 1);  // what mask m + 1 is the first to keep
      const std::vector<Index> columns = levels.columns(a, level, level);
      if (!columns.empty()) sum = remainder->product(levels.partition, *levels.remainder, columns, top, height);
      if (m + 1 < levels.masks) sum += coarse_sums[f][m + 1].middleRows(top, height);
    }
  }
}

void Worker::remainder_row(const Run& rows, const MaskedPlace& place, const Part& keeps, const Part& drops,
                           const std::vector<Index>& dropped, MaskEffect& sums) {
  const Index r = place.row, u = rows.first + r;
  const AtomLevels& levels = families[place.family];
  MaskEffect& effect = result.effects[place.family][place.mask];
  effect.dropped[u] = drops.mass;
  effect.kept[u] = keeps.mass;
  const RemainderRow found = remainder->row({.row = r,
                                             .atom = place.row_atom,
                                             .partition = levels.partition,
                                             .parent = levels.parent,
                                             .regions = levels.remainder,
                                             .dropped = &dropped,
                                             .kept_mass = keeps.mass,
                                             .kept_square = keeps.square,
                                             .dropped_mass = drops.mass,
                                             .kept_output = kept[place.family][place.mask].row(r) + text.row(r),
                                             .lost_output = coarse_sums[place.family][place.mask].row(r),
                                             .dense = dense.row(r),
                                             .with_probs = place.checked >= 0});
  effect.remainder->bound[u] = found.bounds.bound;
  effect.remainder->bound_radii[u] = found.bounds.bound_radii;
  effect.remainder->bound_gap[u] = found.bounds.bound_gap;
  effect.remainder->recall_bound[u] = found.bounds.recall_bound;
  effect.probs_error[u] = found.probs_error;
  add_output(found.output, found.error, dense.row(r), effect.output_error[u], sums);
  if (place.checked < 0) return;
  const double l1 = (found.probs - checked_probs.row(place.checked)).lpNorm<1>();
  sums.row_l1_max = std::max(sums.row_l1_max, l1);
  sums.remainder->row_l1_excess = std::max(sums.remainder->row_l1_excess, l1 - 2.0 * found.bounds.bound);
  ++sums.rows_checked;
}

MaskedRow Worker::own_softmax(Index row, const std::function<bool(Index)>& columns) {
  if (logits_of != row) stripes.logits(row, 1, 0, stripes.grid.tokens(), row_logits);
  logits_of = row;
  return masked_row(stripes, row_logits, columns);
}

void Worker::row(const Run& rows, const MaskedPlace& place, const Part& keeps, const Part& drops, MaskEffect& sums) {
  const Index r = place.row, u = rows.first + r;
  MaskEffect& effect = result.effects[place.family][place.mask];
  effect.dropped[u] = drops.mass;
  effect.kept[u] = keeps.mass;
  // P - P^M is P on the dropped columns and -mu P^M on the kept ones. So ||P - P^M|| = mu sqrt(a + b), where a and b
  // are the sums of squares of a softmax over the kept columns alone and over the dropped columns alone.
  double kept_sharpness = 0.0, dropped_sharpness = 0.0;
  Eigen::RowVectorXd sparse;
  std::optional<MaskedRow> exact;
  if (keeps.mass >= kTrustedMass) {
    kept_sharpness = keeps.square / (keeps.mass * keeps.mass);
    sparse = (kept[place.family][place.mask].row(r) + text.row(r)) / keeps.mass;
  } else {
    exact = own_softmax(u, [&](Index column_atom) { return is_kept(place, column_atom); });
    kept_sharpness = exact->probs_square;
    sparse = exact->output;  // 0 if the row keeps nothing
  }
  Eigen::RowVectorXd error = dense.row(r) - sparse;
  if (drops.mass == 0.0) {
    error.setZero();
  } else if (drops.mass < kTrustedDifference) {
    const MaskedRow lost = own_softmax(u, [&](Index column_atom) { return !is_kept(place, column_atom); });
    dropped_sharpness = lost.probs_square;
    error = drops.mass * (lost.output - sparse);
  } else {
    dropped_sharpness = drops.square / (drops.mass * drops.mass);
  }
  effect.probs_error[u] = drops.mass * std::sqrt(kept_sharpness + dropped_sharpness);
  add_output(sparse, error, dense.row(r), effect.output_error[u], sums);
  if (place.checked >= 0) check_row(place, keeps.mass, drops.mass, exact ? &*exact : nullptr, sums);
}

void Worker::check_row(const MaskedPlace& place, double kept_mass, double dropped_mass, const MaskedRow* exact,
                       MaskEffect& sums) const {
  if (exact != nullptr && !exact->keeps) return;
  double l1 = 0.0;
  for (Index b = 0; b < stripes.column_atoms(); ++b) {
    const Index first = stripes.atom_first(b), size = stripes.atom_size(b);
    const auto p = checked_probs.row(place.checked).segment(first, size).array();
    if (!is_kept(place, b)) {
      l1 += p.sum();
    } else if (exact != nullptr) {
      l1 += (exact->probs.segment(first, size).array() - p).abs().sum();
    } else {
      l1 += (p / kept_mass - p).abs().sum();
    }
  }
  sums.row_l1_max = std::max(sums.row_l1_max, l1);
  sums.row_l1_residual = std::max(sums.row_l1_residual, std::abs(l1 - 2.0 * dropped_mass));
  ++sums.rows_checked;
}

void add(DenseSums& total, const DenseSums& part) {
  total.norm = std::hypot(total.norm, part.norm);
  total.absolute += part.absolute;
  total.lowest = std::min(total.lowest, part.lowest);
  total.highest = std::max(total.highest, part.highest);
}

void add(MaskEffect& total, const MaskEffect& part) {
  total.output_error1 += part.output_error1;
  total.output_dot += part.output_dot;
  total.output_norm = std::hypot(total.output_norm, part.output_norm);
  total.row_l1_max = std::max(total.row_l1_max, part.row_l1_max);
  total.row_l1_residual = std::max(total.row_l1_residual, part.row_l1_residual);
  total.rows_checked += part.rows_checked;
  if (part.remainder) {
    total.remainder->row_l1_excess = std::max(total.remainder->row_l1_excess, part.remainder->row_l1_excess);
  }
}

}  // namespace

MaskSweep sweep_masks(const Stripes& stripes, const LogSums& lse, std::span<const MaskFamily> families,
                      std::span<const std::vector<Index>> parents, int threads, const Progress& progress) {
  std::vector<AtomLevels> levels;
  for (const MaskFamily& family : families) levels.emplace_back(family, parents[family.partition], stripes.grid.causal);
  const Index video = stripes.grid.video();
  MaskSweep result;
  result.dense.lowest = std::numeric_limits<double>::infinity();
  result.dense.highest = -result.dense.lowest;
  for (const AtomLevels& family : levels) {
    MaskEffect blank;
    blank.dropped = blank.kept = blank.probs_error = blank.output_error = Vector::Zero(video);
    const Vector& zeros = blank.dropped;
    if (family.remainder != nullptr) blank.remainder = {zeros, zeros, zeros, zeros};
    result.effects.emplace_back(family.masks, blank);
  }
  std::vector<const CoarseRegions*> coarse(parents.size(), nullptr);
  for (const AtomLevels& family : levels) {
    if (family.remainder != nullptr) coarse[family.partition] = family.remainder;
  }
  const bool has_remainder = std::ranges::any_of(coarse, [](const auto* regions) { return regions != nullptr; });
  std::vector<ChunkSums> sums(stripes.rows.size());
  parallel_for(static_cast<Index>(stripes.rows.size()), threads, [&] {
    auto worker = std::make_shared<Worker>(
        Worker{stripes, lse, levels, parents, result, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, coarse, {}, {}});
    if (has_remainder) worker->remainder.emplace(stripes, lse);
    for (const AtomLevels& family : levels) {
      worker->kept.emplace_back(family.masks);
      worker->coarse_sums.emplace_back(family.remainder != nullptr ? family.masks : 0);
    }
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
