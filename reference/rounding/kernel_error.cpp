#include "reference/rounding/kernel_error.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "reference/exponential.hpp"
#include "reference/rounding/eight_bit.hpp"

namespace draft {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kFloat = 1.0 / (1 << 24);  // fp32's unit roundoff
constexpr Index kMostColumns = 512;         // columns of one product: fits in the cache
constexpr double kPhases[] = {1.0, 0.79,
                              0.61};  // scalings of P: a kernel's running maximum scales it by an unknown factor

/// Nearest number of the format for 0 <= x < 2^127; ties are rounded away from zero.
double rounded(double x, KernelFormat format) {
  const double normal = std::ldexp(1.0, format.lowest + format.bits - 1);
  const double magic =
      1.5 * std::ldexp(1.0, format.lowest + 52);  // one unit in its last place: the format's smallest number
  const int dropped = 53 - format.bits;
  const auto bits = std::bit_cast<std::uint64_t>(x) + (std::uint64_t{1} << (dropped - 1));
  return x < normal ? (x + magic) - magic : std::bit_cast<double>(bits >> dropped << dropped);
}

/// A run of consecutive kept columns, in region order.
struct Columns {
  Index first, size;
};

std::vector<Columns> kept_columns(const Stripes& stripes, const BlockMask& mask, Index block) {
  std::vector<Columns> kept;
  for (Index b = 0; b < stripes.column_atoms(); ++b) {
    if (block < stripes.atom_count() && b < stripes.atom_count() && !mask.kept(block, b)) continue;
    const Index first = stripes.atom_first(b);
    for (Index done = 0; done < stripes.atom_size(b);) {
      const bool joins =
          !kept.empty() && kept.back().first + kept.back().size == first + done && kept.back().size < kMostColumns;
      if (!joins) kept.push_back({first + done, 0});
      const Index piece = std::min(kMostColumns - kept.back().size, stripes.atom_size(b) - done);
      kept.back().size += piece;
      done += piece;
    }
  }
  return kept;
}

/// The pooled rows of the blocks that a block row drops, and what their sizes add to a logit.
struct Dropped {
  std::vector<Index> columns;
  Matrix k, v;   // [dropped, head_dim]
  Vector terms;  // ln |R_j|, [dropped]
};

Dropped dropped_rows(const Partition& partition, const BlockMask& mask, Index block, const PooledRows* remainder,
                     Index dim) {
  std::vector<Index> columns;
  if (remainder != nullptr && block < partition.regions()) columns = mask.dropped(block);
  const auto count = static_cast<Index>(columns.size());
  Dropped dropped{columns, Matrix(count, dim), Matrix(count, dim), Vector(count)};
  for (Index i = 0; i < count; ++i) {
    const Index column = columns[static_cast<std::size_t>(i)];
    dropped.k.row(i) = remainder->k.row(column);
    dropped.v.row(i) = remainder->v.row(column);
    dropped.terms[i] = std::log(static_cast<double>(partition.size(column)));
  }
  return dropped;
}

/// The larger of two numbers; NaN if either is NaN.
double larger(double a, double b) { return a >= b || std::isnan(a) ? a : b; }

/// found / allowed; 0 if `found` is 0, even if nothing is allowed.
double ratio(double found, double allowed) { return found == 0.0 ? 0.0 : found / allowed; }

}  // namespace

KernelTruth::KernelTruth(const Problem& problem, RegionSize region, KernelFormat format, Arithmetic arithmetic)
    : region_tokens_(region.height * region.width),
      text_blocks_((problem.grid.text + region_tokens_ - 1) / region_tokens_),
      format_(format),
      stripes_((require_valid(problem), problem), Partition(problem.grid, region)),
      absolute_v_(stripes_.v.cwiseAbs()),
      longest_k_(problem.k.rowwise().norm().maxCoeff()) {
  if (arithmetic == Arithmetic::eight_bit) eight_bit_ = std::make_shared<EightBitHead>(stripes_, region_tokens_);
}

RowsTruth KernelTruth::rows(const BlockMask& mask, Index block, const PooledRows* remainder) const {
  const Index regions = partition().regions();
  if (mask.regions() != regions || block < 0 || block >= blocks()) {
    throw std::invalid_argument(
        fmt::format("kernel truth: wanted a mask of {} regions and a block below {}, found {} and {}", regions,
                    blocks(), mask.regions(), block));
  }
  if (remainder != nullptr && (remainder->k.rows() != regions || remainder->v.rows() != regions)) {
    throw std::invalid_argument(fmt::format("kernel truth: wanted {} pooled rows of k and of v, found {} and {}",
                                            regions, remainder->k.rows(), remainder->v.rows()));
  }
  const bool text = block >= regions;
  const Index first = text ? stripes_.grid.video() + (block - regions) * region_tokens_ : stripes_.atom_first(block);
  const Index count = text ? std::min(region_tokens_, stripes_.grid.tokens() - first) : stripes_.atom_size(block);
  const std::vector<Columns> columns = kept_columns(stripes_, mask, block);
  const Index dim = stripes_.q.cols();
  const Dropped dropped = dropped_rows(partition(), mask, block, remainder, dim);
  Index keys = dropped.terms.size();
  for (const Columns& piece : columns) keys += piece.size;

  RowsTruth truth{{},
                  Matrix::Zero(count, dim),
                  Vector::Constant(count, -kInfinity),
                  Matrix::Zero(count, dim),
                  Vector::Zero(count),
                  Vector::Zero(count),
                  Vector::Zero(eight_bit_ ? count : 0)};
  for (Index r = 0; r < count; ++r) truth.tokens.push_back(text ? first + r : partition().order()[first + r]);
  if (keys == 0) return truth;

  const Matrix q = stripes_.scale * stripes_.q.middleRows(first, count);
  Matrix p(count, keys);
  Index at = 0;
  for (const Columns& piece : columns) {
    p.middleCols(at, piece.size).noalias() = q * stripes_.k.middleRows(piece.first, piece.size).transpose();
    at += piece.size;
  }
  if (at < keys) {
    p.rightCols(keys - at).noalias() = q * dropped.k.transpose();
    p.rightCols(keys - at).rowwise() += dropped.terms.transpose();
  }
  Vector total(count);
  for (Index r = 0; r < count; ++r) {
    auto row = p.row(r).array();
    const double highest = row.maxCoeff();
    row -= highest;
    exponentiate(p.row(r).array());
    total[r] = row.sum();
    truth.lse[r] = highest + std::log(total[r]);
  }

  if (eight_bit_) {
    EightBitColumns attended{{}, dropped.columns, remainder, dropped.terms};
    at = 0;
    for (const Columns& piece : columns) {
      truth.o.noalias() += p.middleCols(at, piece.size) * stripes_.v.middleRows(piece.first, piece.size);
      for (Index i = 0; i < piece.size; ++i) attended.kept.push_back(piece.first + i);
      at += piece.size;
    }
    if (at < keys) truth.o.noalias() += p.rightCols(keys - at) * dropped.v;
    for (Index r = 0; r < count; ++r) truth.o.row(r) /= total[r];
    eight_bit_->bound(stripes_.q.middleRows(first, count), attended, p, total, format_, truth);
    return truth;
  }

  Matrix weight = Matrix::Zero(count, dim);  // P |V|
  Matrix wrong[std::size(kPhases)];          // (round(P) - P) V
  for (Matrix& phase : wrong) phase.setZero(count, dim);
  Matrix error;
  const auto add = [&](const auto& part, const auto& v, const auto& absolute_v) {
    truth.o.noalias() += part * v;
    weight.noalias() += part * absolute_v;
    for (std::size_t i = 0; i < std::size(kPhases); ++i) {
      error = part.unaryExpr([&](double x) { return rounded(x * kPhases[i], format_) / kPhases[i] - x; });
      wrong[i].noalias() += error * v;
    }
  };
  at = 0;
  for (const Columns& piece : columns) {
    add(p.middleCols(at, piece.size), stripes_.v.middleRows(piece.first, piece.size),
        absolute_v_.middleRows(piece.first, piece.size));
    at += piece.size;
  }
  if (at < keys) add(p.rightCols(keys - at), dropped.v, dropped.v.cwiseAbs());

  const double u = format_.unit_roundoff(), n = static_cast<double>(keys), d = static_cast<double>(dim);
  // P V's error from entries of P below the format's normal range: each is rounded by half the smallest number.
  const double smallest = std::ldexp(1.0, format_.lowest - 1) * n * absolute_v_.maxCoeff();
  for (Index r = 0; r < count; ++r) {
    truth.o.row(r) /= total[r];
    const double logit = q.row(r).norm() * longest_k_;
    const double fp32 = kFloat * (4.0 * d * logit + n + 64.0);
    truth.lse_bound[r] = fp32 * (1.0 + std::abs(truth.lse[r]));
    truth.o_bound.row(r) = (weight.row(r) * ((u + fp32) / total[r]) + u * truth.o.row(r).cwiseAbs()).array() +
                           smallest / total[r] + std::ldexp(1.0, format_.lowest - 1);
    double rounding = 0.0;
    for (const Matrix& phase : wrong) rounding = std::max(rounding, phase.row(r).norm() / total[r]);
    // fp32's share of a p's relative error relative to its rounding to the format: rounding of the logit is random, in
    // all 4 sqrt(d) e |logit|, and rounding of p is 0.4 u on average.
    const double fp32_share = kFloat * (4.0 * std::sqrt(d) * logit + 8.0) / (0.4 * u);
    truth.row_tolerance[r] = 3.0 * (1.0 + fp32_share) * rounding +
                             (2.0 * u + kFloat * (4.0 * std::sqrt(n) + 64.0)) * truth.o.row(r).norm() +
                             std::sqrt(d) * (smallest / total[r] + std::ldexp(1.0, format_.lowest - 1));
  }
  return truth;
}

std::optional<double> KernelError::rel_l2() const {
  if (square_ == 0.0) return std::nullopt;
  return std::sqrt(square_error_ / square_);
}

double KernelError::total_over_expected() const {
  if (found_ == 0.0) return 0.0;
  constexpr double kRare = 18.0;        // e^-18
  constexpr double kLeast = 1.5 * 1.5;  // of the mean square
  const double n = expected_ * expected_ / expected_square_;
  const double limit = std::max(kLeast, 1.0 + 2.0 * std::sqrt(kRare / n) + 2.0 * kRare / n);
  return std::sqrt(found_ / (limit * expected_));
}

void KernelError::add(const RowsTruth& truth, Index block, const Matrix& o, const Vector& lse) {
  double block_error = 0.0, block_square = 0.0;
  for (Index r = 0; r < truth.o.rows(); ++r) {
    const Eigen::RowVectorXd off = (o.row(r) - truth.o.row(r)).cwiseAbs();
    const bool empty = std::isinf(truth.lse[r]);
    block_error += off.squaredNorm();
    block_square += truth.o.row(r).squaredNorm();
    row_over_tolerance = larger(row_over_tolerance, ratio(off.norm(), truth.row_tolerance[r]));
    const double lse_off = empty && lse[r] == truth.lse[r] ? 0.0 : std::abs(lse[r] - truth.lse[r]);
    lse_max_abs = larger(lse_max_abs, lse_off);
    lse_over_bound = larger(lse_over_bound, ratio(lse_off, truth.lse_bound[r]));
    for (Index c = 0; c < off.size(); ++c) {
      max_abs = larger(max_abs, off[c]);
      element_over_bound = larger(element_over_bound, ratio(off[c], truth.o_bound(r, c)));
    }
    if (truth.row_expected.size() == 0) continue;
    const double expected = truth.row_expected[r] * truth.row_expected[r];
    found_ += off.squaredNorm();
    expected_ += expected;
    expected_square_ += expected * expected;
  }
  rows += truth.o.rows();
  square_error_ += block_error;
  square_ += block_square;
  if (block_square == 0.0) return;
  const double block_rel = std::sqrt(block_error / block_square);
  if (!worst_block_rel_l2 || !(block_rel <= *worst_block_rel_l2)) {
    worst_block_rel_l2 = block_rel;
    worst_block = block;
  }
}

}  // namespace draft
