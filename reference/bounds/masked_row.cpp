#include "reference/bounds/masked_row.hpp"

#include <algorithm>
#include <limits>

#include "reference/exponential.hpp"

namespace draft {

MaskedRow masked_row(const Stripes& stripes, const Matrix& logits, const std::function<bool(Index)>& kept) {
  MaskedRow result{false, Eigen::RowVectorXd::Zero(stripes.grid.tokens()), 0.0,
                   Eigen::RowVectorXd::Zero(stripes.v.cols())};
  const auto each_kept = [&](auto&& visit) {
    for (Index b = 0; b < stripes.column_atoms(); ++b) {
      if (kept(b)) visit(stripes.atom_first(b), stripes.atom_size(b));
    }
  };
  double highest = -std::numeric_limits<double>::infinity(), total = 0.0;
  each_kept(
      [&](Index first, Index size) { highest = std::max(highest, logits.row(0).segment(first, size).maxCoeff()); });
  result.keeps = highest > -std::numeric_limits<double>::infinity();
  if (!result.keeps) return result;
  each_kept([&](Index first, Index size) {
    auto weights = result.probs.segment(first, size);
    weights = (stripes.scale * (logits.row(0).segment(first, size).array() - highest)).matrix();
    exponentiate(result.probs.segment(first, size).array());
    total += weights.sum();
    result.probs_square += weights.squaredNorm();
    result.output += weights * stripes.v.middleRows(first, size);
  });
  result.probs /= total;
  result.output /= total;
  result.probs_square /= total * total;
  return result;
}

}  // namespace draft
