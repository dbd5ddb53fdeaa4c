#include "reference/bounds/remainder_sweep.hpp"

#include <algorithm>
#include <cmath>

#include "reference/bounds/masked_row.hpp"
#include "reference/bounds/trust.hpp"
#include "reference/exponential.hpp"
#include "reference/norm.hpp"

namespace draft {

void RemainderSweep::start(const Run& rows) {
  rows_ = rows;
  for (Matrix* matrix : {&atoms_.mass, &atoms_.centred, &atoms_.log_sum, &atoms_.log_max}) {
    matrix->resize(rows.size, stripes_.column_atoms());
  }
}

void RemainderSweep::add_logs(Index row, const Run& columns, const Matrix& logs) {
  for (Index b = columns.first_atom; b < columns.last_atom; ++b) {
    const auto piece = logs.row(row).segment(stripes_.atom_first(b) - columns.first, stripes_.atom_size(b));
    atoms_.log_sum(row, b) = piece.sum();
    atoms_.log_max(row, b) = piece.maxCoeff();
  }
}

void RemainderSweep::add_probs(Index row, Index atom, double mass, double centred) {
  atoms_.mass(row, atom) = mass;
  atoms_.centred(row, atom) = centred;
}

void RemainderSweep::finish(std::span<const std::vector<Index>> parents,
                            std::span<const CoarseRegions* const> regions) {
  regions_.resize(regions.size());
  for (std::size_t p = 0; p < regions.size(); ++p) {
    if (regions[p] != nullptr) regions_[p] = by_region(atoms_, stripes_, parents[p], *regions[p]);
  }
}

Matrix RemainderSweep::product(std::size_t partition, const CoarseRegions& regions, const std::vector<Index>& columns,
                               Index top, Index height) const {
  const Matrix weights = regions_[partition].weight.middleRows(top, height)(Eigen::all, columns);
  const Matrix values = regions.values(columns, Eigen::all);
  return weights * values;
}

bool RemainderSweep::is_dropped(const RemainderPlace& place, Index atom) const {
  return atom < stripes_.atom_count() && std::binary_search(place.dropped->begin(), place.dropped->end(),
                                                            (*place.parent)[static_cast<std::size_t>(atom)]);
}

/// log P of one row of the chunk, [tokens] in region order.
Eigen::RowVectorXd RemainderSweep::logs_of(Index row) {
  const Index u = rows_.first + row;
  stripes_.logits(u, 1, 0, stripes_.grid.tokens(), logits_);
  return (stripes_.scale * (logits_.row(0).array() - lse_.highest[u]) - lse_.rest[u]).matrix();
}

RemainderRow RemainderSweep::row(const RemainderPlace& place) {
  const RegionRows& rows = regions_[place.partition];
  const CoarseRegions& regions = *place.regions;
  const Index u = rows_.first + place.row;
  double always = stripes_.grid.text > 0 ? atoms_.mass(place.row, stripes_.atom_count()) : 0.0;
  if (stripes_.grid.causal) {  // the diagonal block's mass, of which the bounds count the weight themselves
    const Index own = (*place.parent)[static_cast<std::size_t>(place.atom)];
    always = rows.mass(place.row, own) - rows.weight(place.row, own);
  }
  RemainderRow out{};
  out.bounds =
      remainder_bounds(rows, place.row, regions, *place.dropped, always, stripes_.scale * safe_norm(stripes_.q.row(u)));
  const RemainderError error =
      remainder_error(rows, place.row, regions, *place.dropped, 1.0, place.kept_mass, place.kept_square);
  if (error.total < kTrustedMass) {
    by_own_softmax(place, out);
    return out;
  }
  out.output = (place.kept_output + place.lost_output) / error.total;
  if (place.dropped_mass == 0.0) {
    out.error = Eigen::RowVectorXd::Zero(out.output.size());
  } else if (place.dropped_mass < kTrustedDifference) {
    by_small_difference(place, out);
  } else {
    out.probs_error = error.probs_error;
    out.error = place.dense - out.output;
  }
  if (place.with_probs) {
    out.probs = logs_of(place.row);
    exponentiate(out.probs.array());
    for (Index b = 0; b < stripes_.atom_count(); ++b) {
      if (!is_dropped(place, b)) continue;
      const Index j = (*place.parent)[static_cast<std::size_t>(b)];
      out.probs.segment(stripes_.atom_first(b), stripes_.atom_size(b))
          .setConstant(rows.weight(place.row, j) / regions.sizes[j]);
    }
    out.probs /= error.total;
  }
  return out;
}

/// With the row's own maximum: for rows whose kept columns and pooled rows all have next to no dense mass.
void RemainderSweep::by_own_softmax(const RemainderPlace& place, RemainderRow& out) {
  Eigen::RowVectorXd dense = logs_of(place.row);
  out.probs = dense;
  for (Index b = 0; b < stripes_.atom_count(); ++b) {
    if (!is_dropped(place, b)) continue;
    const Index j = (*place.parent)[static_cast<std::size_t>(b)];
    out.probs.segment(stripes_.atom_first(b), stripes_.atom_size(b))
        .setConstant(regions_[place.partition].mean(place.row, j));
  }
  out.probs.array() -= out.probs.maxCoeff();
  exponentiate(out.probs.array());
  out.probs /= out.probs.sum();
  exponentiate(dense.array());
  out.probs_error = safe_norm(dense - out.probs);
  out.output = out.probs * stripes_.v;
  out.error = place.dense - out.output;
}

/// O - O' = D - R - (1 - W) O' with D and R the dropped columns' and the remainder's sums, all of them in units of the
/// dropped mass, so that no two outputs that are equal but for it are subtracted.
void RemainderSweep::by_small_difference(const RemainderPlace& place, RemainderRow& out) {
  const double unit = place.dropped_mass;
  Eigen::RowVectorXd logs = logs_of(place.row);
  logs.array() -= std::log(unit);
  const MaskedRow lost = masked_row(stripes_, logits_, [&](Index atom) { return is_dropped(place, atom); });
  AtomRows atoms;
  for (Matrix* matrix : {&atoms.mass, &atoms.centred, &atoms.log_sum, &atoms.log_max}) {
    matrix->resize(1, stripes_.column_atoms());
  }
  for (Index b = 0; b < stripes_.atom_count(); ++b) {
    const auto piece = lost.probs.segment(stripes_.atom_first(b), stripes_.atom_size(b));
    const auto log_piece = logs.segment(stripes_.atom_first(b), stripes_.atom_size(b));
    atoms.mass(0, b) = piece.sum();
    atoms.centred(0, b) = (piece.array() - piece.mean()).square().sum();
    atoms.log_sum(0, b) = log_piece.sum();
    atoms.log_max(0, b) = log_piece.maxCoeff();
  }
  const CoarseRegions& regions = *place.regions;
  const RegionRows rows = by_region(atoms, stripes_, *place.parent, regions);
  const RemainderError error =
      remainder_error(rows, 0, regions, *place.dropped, unit, place.kept_mass, place.kept_square);
  Eigen::RowVectorXd pooled = Eigen::RowVectorXd::Zero(out.output.size());
  for (const Index j : *place.dropped) pooled += rows.weight(0, j) * regions.values.row(j);
  out.probs_error = error.probs_error;
  out.error = unit * (lost.output - pooled - error.gap * out.output);
}

}  // namespace draft
