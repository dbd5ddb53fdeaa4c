#include "reference/rounding/eight_bit_kernel.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace draft {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Index kStep = 32, kTile = 128;  // keys that are added at once, and that a tile has at most
constexpr int kFraction = 13;             // bits that an addend keeps below the largest one's leading bit

/// Nearest number of `bits` significant bits that is a multiple of 2^lowest, ties to even.
double nearest(double x, int bits, int lowest) {
  if (x == 0.0 || !std::isfinite(x)) return x;
  const int exponent = std::max(std::ilogb(x) - bits + 1, lowest);
  return std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
}

}  // namespace

/// Rows while their keys are walked.
struct EightBitKernel::Rows {
  Matrix q;
  Vector shift;            // base 2
  Matrix sums, kept_sums;  // of P V, and of P in the last column; what was added to fp32
  Index tiles = 0;         // since then
};

/// Rows that share one step, rounded and multiplied by it again.
Matrix EightBitKernel::quantised(const Matrix& rows) const {
  if (choices_.queries_and_keys == EightBitChoices::Operands::exact || rows.size() == 0) return rows;
  if (rows.hasNaN()) return Matrix::Constant(rows.rows(), rows.cols(), std::numeric_limits<double>::quiet_NaN());
  const bool int8 = choices_.queries_and_keys == EightBitChoices::Operands::int8;
  const double step = rows.cwiseAbs().maxCoeff() / (int8 ? 127.0 : 448.0);
  if (step == 0.0) return rows;
  return rows.unaryExpr([&](double x) { return step * (int8 ? std::nearbyint(x / step) : nearest(x / step, 4, -9)); });
}

Matrix EightBitKernel::rounded_v(const Matrix& v) const {
  if (!choices_.rounds_v) return v;
  const double unit = std::ldexp(1.0, exponent_);
  return v.unaryExpr([&](double x) { return unit * std::clamp(nearest(x / unit, 4, -9), -448.0, 448.0); });
}

EightBitKernel::EightBitKernel(const Problem& problem, RegionSize region, EightBitChoices choices)
    : partition_((require_valid(problem), problem.grid), region),
      region_tokens_(region.height * region.width),
      choices_(std::move(choices)),
      scale_(problem.scale),
      exponent_(value_exponent(problem.v)),
      blocks_(key_blocks(partition_, region_tokens_)),
      mean_(choices_.mean.size() > 0 ? choices_.mean : Vector(problem.k.colwise().mean().transpose())),
      exact_q_(reorder(problem.q, partition_)),
      q_(exact_q_),
      k_(reorder(problem.k, partition_).rowwise() - mean_.transpose()),
      v_(rounded_v(reorder(problem.v, partition_))) {
  for (Index r = 0; r < q_.rows(); ++r) q_.row(r) = quantised(exact_q_.row(r));
  Index first = 0;
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    const double wrong = static_cast<Index>(b) == choices_.wrong_block ? choices_.wrong_step : 1.0;
    k_.middleRows(first, blocks_[b]) = wrong * quantised(k_.middleRows(first, blocks_[b]));
    first += blocks_[b];
  }
}

/// The weight of that log2.
double EightBitKernel::weight(double x) const {
  switch (choices_.weights) {
    case EightBitChoices::Weights::exact: return std::exp2(x);
    case EightBitChoices::Weights::nearest:
      return std::isnan(x) ? x : std::min(nearest(std::exp2(x), choices_.p_bits, -9), 448.0);
    case EightBitChoices::Weights::coded: break;
  }
  const double step = std::ldexp(1.0, 1 - choices_.p_bits);  // octaves: fewer bits, fewer codes
  return coded_weight(step * std::nearbyint(x / step));
}

void EightBitKernel::add_products(const Matrix& p, const Matrix& v, Matrix& sums) const {
  const Index dim = v.cols();
  if (!choices_.rounds_sums) {
    sums.leftCols(dim) += p * v;
    sums.rightCols(1) += p.rowwise().sum();
    return;
  }
  Matrix columns(v.rows(), dim + 1), addends(v.rows() + 1, dim + 1);
  columns << v, Vector::Ones(v.rows());
  for (Index r = 0; r < p.rows(); ++r) {
    addends.topRows(v.rows()) = columns.array().colwise() * p.row(r).transpose().array();
    addends.bottomRows(1) = sums.row(r);
    for (Index c = 0; c <= dim; ++c) {
      const double largest = addends.col(c).cwiseAbs().maxCoeff();
      if (largest == 0.0 || !std::isfinite(largest)) continue;
      const double quantum = std::ldexp(1.0, std::ilogb(largest) - kFraction), inverse = 1.0 / quantum;
      for (Index j = 0; j < addends.rows(); ++j) addends(j, c) = quantum * std::trunc(addends(j, c) * inverse);
    }
    sums.row(r) = addends.colwise().sum();
  }
}

/// One block of keys with what is added to their logits, in nats.
void EightBitKernel::attend_block(const Matrix& k, const Matrix& v, const Vector& terms, Rows& rows) const {
  constexpr double kOctave = 0.693147180559945309;  // ln 2
  Matrix p = scale_ * (rows.q * k.transpose());
  p.rowwise() += terms.transpose();
  p /= kOctave;
  for (Index r = 0; r < p.rows(); ++r) {
    const double highest = p.row(r).maxCoeff();
    if (!(highest - rows.shift[r] <= choices_.slack)) {
      const double shrink = std::isinf(rows.shift[r]) ? 0.0 : std::exp2(rows.shift[r] - highest);
      rows.sums.row(r) *= shrink;
      rows.kept_sums.row(r) *= shrink;
      rows.shift[r] = highest;
    }
    for (Index c = 0; c < p.cols(); ++c) p(r, c) = weight(p(r, c) - rows.shift[r] + choices_.offset);
  }
  for (Index first = 0; first < k.rows(); first += kStep) {
    const Index size = std::min(kStep, k.rows() - first);
    add_products(p.middleCols(first, size), v.middleRows(first, size), rows.sums);
    const bool ends_tile = (first + kStep) % kTile == 0 || first + kStep >= k.rows();
    if (!ends_tile || ++rows.tiles < choices_.tiles_in_sums) continue;
    rows.kept_sums += rows.sums;
    rows.sums.setZero();
    rows.tiles = 0;
  }
}

Output EightBitKernel::rows(const BlockMask& mask, Index block, const PooledRows* remainder) const {
  const Index regions = partition_.regions();
  if (mask.regions() != regions || block < 0 || block >= static_cast<Index>(blocks_.size())) {
    throw std::invalid_argument("eight-bit kernel: a mask or a block of other regions");
  }
  std::vector<Index> offsets{0};
  for (const Index size : blocks_) offsets.push_back(offsets.back() + size);
  const Index first = offsets[static_cast<std::size_t>(block)], count = blocks_[static_cast<std::size_t>(block)];
  const Index dim = q_.cols();
  Rows rows{q_.middleRows(first, count), Vector::Constant(count, -kInfinity), Matrix::Zero(count, dim + 1),
            Matrix::Zero(count, dim + 1)};
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    if (block < regions && static_cast<Index>(b) < regions && !mask.kept(block, static_cast<Index>(b))) continue;
    attend_block(k_.middleRows(offsets[b], blocks_[b]), v_.middleRows(offsets[b], blocks_[b]), Vector::Zero(blocks_[b]),
                 rows);
  }
  for (Index tile = 0; remainder != nullptr && block < regions && tile < regions; tile += kPooledTile) {
    const Index size = std::min(kPooledTile, regions - tile);
    const Matrix k = quantised(remainder->k.middleRows(tile, size).rowwise() - mean_.transpose());
    const Matrix v = rounded_v(remainder->v.middleRows(tile, size));
    Vector terms = Vector::Constant(size, -kInfinity);
    for (Index i = 0; i < size; ++i) {
      if (!mask.kept(block, tile + i)) terms[i] = std::log(static_cast<double>(partition_.size(tile + i)));
    }
    if (terms.maxCoeff() > -kInfinity) attend_block(k, v, terms, rows);
  }
  const Matrix sums = rows.sums + rows.kept_sums;
  Output out{Matrix::Zero(count, dim), Vector::Constant(count, -kInfinity)};
  for (Index r = 0; r < count; ++r) {
    const double total = sums(r, dim);
    if (total == 0.0) continue;
    out.o.row(r) = sums.row(r).head(dim) / total;
    if (choices_.rounds_o) {
      out.o.row(r) =
          out.o.row(r).unaryExpr([&](double x) { return nearest(x, choices_.element.bits, choices_.element.lowest); });
    }
    out.lse[r] = (rows.shift[r] - choices_.offset + std::log2(total)) * std::log(2.0);
    if (choices_.weights == EightBitChoices::Weights::coded) out.lse[r] -= std::log(kCodedMean);
    if (!choices_.forgets_mean) out.lse[r] += scale_ * exact_q_.row(first + r).dot(mean_);
  }
  return out;
}

}  // namespace draft
