#include "reference/masked_row.hpp"

#include <cmath>
#include <limits>

namespace draft {

MaskedRow masked_row(const Stripes& stripes, Index row, const std::function<bool(Index, Index)>& kept) {
  Index row_atom = 0;
  while (stripes.atom_first(row_atom) + stripes.atom_size(row_atom) <= row) ++row_atom;
  const auto each_kept = [&](auto&& visit) {
    for (Index b = 0; b < stripes.column_atoms(); ++b) {
      if (!kept(row_atom, b)) continue;
      for (Index v = stripes.atom_first(b); v < stripes.atom_first(b) + stripes.atom_size(b); ++v) {
        visit(v, stripes.scale * stripes.q.row(row).dot(stripes.k.row(v)));
      }
    }
  };
  double highest = -std::numeric_limits<double>::infinity();
  each_kept([&](Index, double logit) { highest = std::max(highest, logit); });
  MaskedRow result{Eigen::RowVectorXd::Zero(stripes.v.cols()), 0.0};
  double total = 0.0;
  each_kept([&](Index v, double logit) {
    const double weight = std::exp(logit - highest);
    total += weight;
    result.probs_square += weight * weight;
    result.output += weight * stripes.v.row(v);
  });
  if (total > 0.0) {
    result.output /= total;
    result.probs_square /= total * total;
  }
  return result;
}

}  // namespace draft
