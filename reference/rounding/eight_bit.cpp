#include "reference/rounding/eight_bit.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

namespace draft {
namespace {

constexpr double kFloat = 1.0 / (1 << 24);  // fp32's unit roundoff
constexpr double kMeanSquare = 0.54;        // of the spacing of a floating-point format relative to its largest
constexpr double kValueUnit = 1.0 / 16;     // E4M3's unit roundoff
constexpr double kWeightUnit = 0.0799;      // largest relative error of a coded weight: 1 - 2^(-1/16) / kCodedMean
constexpr double kWeightSquare = 9.87e-4;   // mean of its square
constexpr double kWhole = 1.0 / (1 << 14);  // below this p's code may be less than 8, so that some of it is lost
constexpr double kMostLost = kWhole / 2 * 1.045;  // most that is lost: all of p = 2^(1/16 - 15), whose code is 0
constexpr double kRelevant = 1.0 / (1 << 10);     // p whose logit's error counts when errors are large
constexpr double kAddend = 1.0 / (1 << 13);  // most that a truncated sum loses of an addend, relative to the largest
constexpr Index kStep = 32;                  // keys that are added at once; with the accumulator 33 addends
constexpr Index kTile = 128, kFlushed = 8;   // keys of a tile at most; tiles between two additions to fp32
constexpr double kMostSums = kAddend * (kStep + 1) * (kFlushed * kTile / kStep);  // of a sum of positive numbers
constexpr double kSumsRoom = 2.0;              // what sums may lose relative to the draws
constexpr double kLeastSums = 1.0 / (1 << 9);  // of the row sums, for the lse
constexpr double kSampleMean = 1.25;           // a block's step at most grows by this if m is a sample's mean
constexpr double kSigmas = 6.0;
constexpr double kBlockSigmas = 4.0;    // of errors that a block shares, each at its largest
constexpr double kCoherent = 0.3;       // least error of the lse relative to no averaging at all; times 6: 1.8 sigma
constexpr double kMostExponent = 60.0;  // e^60: any tolerance is larger than what it is capped with, and fits float
constexpr Index kMostRows = 128;        // rows at a time: bounds the memory
constexpr int kPhases = 6;              // shifts, over the slack, at which P's rounding is tried for the lse
constexpr double kStale[EightBitHead::kDraws] = {0.0, 0.34, 0.68};  // octaves that shift is below the maximum

using FloatRows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Keys whose products are added at once.
struct Step {
  Index first, size;
  bool fresh;  // what was summed before was added to fp32
};

/// Keys that share a step of INT8.
struct Block {
  Index first, size;
};

/// Mean over channels of INT8's error, in steps, at that level of all channels together where it is largest.
template <typename Row>
double common_error(const Eigen::ArrayBase<Row>& numbers) {
  constexpr int kLevels = 8;
  double largest = 0.0;
  for (int i = 0; i < kLevels; ++i) {
    const Eigen::ArrayXd moved = numbers.template cast<double>() + static_cast<double>(i) / kLevels;
    largest = std::max(largest, std::abs((moved.round() - moved).mean()));
  }
  return std::min(0.5, largest * kLevels / (kLevels - 1.0));  // the worst level may be half way between two
}

/// What is lost of a weight 2^octaves times the largest of its row, as a share of it: what its code falls short of the
/// mean, if that is below 8. No shift loses more than the maximum.
double lost_share(double octaves) {
  const double x = octaves + kWeightOffset;
  if (x < kLeastLog2Weight - 1.0) return 1.0;  // code 0; further below 2^x is 0 too
  return x < kLeastLog2Weight ? 1.0 - coded_weight(x) / (kCodedMean * std::exp2(x)) : 0.0;
}

constexpr int kLanes = 16;  // channels at a time
using Lanes = Eigen::Array<float, kLanes, 1>;
using SomeLanes = Eigen::Map<const Lanes>;

/// Adds `count` products p_j v_jc to each of kLanes accumulators: all addends are truncated toward zero to multiples of
/// 2^-13 of the power of two below the largest. Exact: products have 8 significant bits, and float more than a sum.
void add_truncated(const float* p, Index count, float largest_p, const float* v, const float* largest_v, Index stride,
                   float* sums) {
  Eigen::Map<Lanes> to(sums);
  Lanes most = to.abs().max(1e-30F), inverse;
  if (!(most >= largest_p * SomeLanes(largest_v)).all()) {
    for (Index j = 0; j < count; ++j) most = most.max((p[j] * SomeLanes(v + j * stride)).abs());
  }
  for (int i = 0; i < kLanes; ++i) {
    const std::uint32_t power = std::bit_cast<std::uint32_t>(most[i]) & 0x7F800000U;
    inverse[i] = std::bit_cast<float>(0x7F000000U - power) / static_cast<float>(kAddend);
    most[i] = std::bit_cast<float>(power) * static_cast<float>(kAddend);
  }
  Eigen::Array<int, kLanes, 1> quanta = (to * inverse).cast<int>();
  for (Index j = 0; j < count; ++j) quanta += (p[j] * SomeLanes(v + j * stride) * inverse).cast<int>();
  to = quanta.cast<float>() * most;
}

/// P V, and in the last column the sums of P, as the accumulators have them.
Matrix truncated_sums(const FloatRows& rounded, const FloatRows& v, const std::vector<Step>& steps) {
  const Index rows = rounded.rows(), dim = v.cols(), width = (dim + kLanes) / kLanes * kLanes;
  FloatRows sums = FloatRows::Zero(rows, width), values = FloatRows::Zero(kStep, width);
  values.col(dim).setOnes();
  Matrix aside = Matrix::Zero(rows, width);
  for (const Step& step : steps) {
    if (step.fresh) {
      aside += sums.cast<double>();
      sums.setZero();
    }
    values.topLeftCorner(step.size, dim) = v.middleRows(step.first, step.size);
    const auto v_step = values.topRows(step.size);
    const Eigen::RowVectorXf largest = v_step.cwiseAbs().colwise().maxCoeff();
    const bool finite_v = v_step.allFinite();
    for (Index r = 0; r < rows; ++r) {
      const float* p = &rounded(r, step.first);
      const auto p_step = rounded.row(r).segment(step.first, step.size);
      if (!finite_v || !p_step.allFinite()) {  // NaN has no exponent to truncate at: it is passed on
        sums.row(r) += p_step * v_step;
        continue;
      }
      const float most = p_step.maxCoeff();
      if (most == 0.0F) continue;
      for (Index c = 0; c < width; c += kLanes) {
        add_truncated(p, step.size, most, &values(0, c), &largest[c], width, &sums(r, c));
      }
    }
  }
  aside += sums.cast<double>();
  return aside.leftCols(dim + 1);
}

}  // namespace

int value_exponent(const Matrix& v) {
  const double largest = v.size() == 0 ? 0.0 : v.cwiseAbs().maxCoeff();
  if (!(largest > 0.0) || std::isinf(largest)) return 0;
  const double rms = largest * std::sqrt((v / largest).squaredNorm() / static_cast<double>(v.size()));
  const int exponent = std::ilogb(rms);
  return largest > std::ldexp(448.0, exponent) ? std::ilogb(largest) - 7 : exponent;
}

std::vector<Index> key_blocks(const Partition& partition, Index region_tokens) {
  std::vector<Index> sizes;
  for (Index region = 0; region < partition.regions(); ++region) sizes.push_back(partition.size(region));
  for (Index left = partition.grid().text; left > 0; left -= region_tokens) {
    sizes.push_back(std::min(left, region_tokens));
  }
  return sizes;
}

EightBitHead::Keys EightBitHead::Keys::rows(const std::vector<Index>& chosen) const {
  Keys out;
  for (int i = 0; i < kDraws; ++i) {
    out.k[i] = k[i](chosen, Eigen::all);
    out.step[i] = step[i](chosen);
  }
  out.length = length(chosen);
  out.sum = sum(chosen);
  out.common = common(chosen);
  out.drift = drift(chosen);
  out.v = v(chosen, Eigen::all);
  out.v_error = v_error(chosen, Eigen::all);
  out.v_length = v_length(chosen);
  return out;
}

void EightBitHead::Keys::append(const Keys& other) {
  const auto join = [](auto& one, const auto& two) {
    one.conservativeResize(one.rows() + two.rows(), two.cols());
    one.bottomRows(two.rows()) = two;
  };
  const auto extend = [](Vector& one, const Vector& two) {
    one.conservativeResize(one.size() + two.size());
    one.tail(two.size()) = two;
  };
  for (int i = 0; i < kDraws; ++i) {
    join(k[i], other.k[i]);
    extend(step[i], other.step[i]);
  }
  extend(length, other.length);
  extend(sum, other.sum);
  extend(common, other.common);
  extend(drift, other.drift);
  join(v, other.v);
  join(v_error, other.v_error);
  extend(v_length, other.v_length);
}

/// Rows in consecutive blocks of these sizes.
EightBitHead::Keys EightBitHead::rounded(const Matrix& k, const Matrix& v, const std::vector<Index>& blocks) const {
  Keys out;
  for (int i = 0; i < kDraws; ++i) {
    const Matrix centred = k.rowwise() - mean_[i].transpose();
    out.k[i].resize(k.rows(), k.cols());
    out.step[i].resize(k.rows());
    if (i == 0) out.common.resize(k.rows());
    Index first = 0;
    for (const Index size : blocks) {
      const auto block = centred.middleRows(first, size);
      const double step = int8_step(block.cwiseAbs().maxCoeff());
      out.step[i].segment(first, size).setConstant(step);
      out.k[i].middleRows(first, size) = (block / (step > 0.0 ? step : 1.0)).array().round().matrix().cast<float>();
      for (Index j = first; i == 0 && j < first + size; ++j) {
        out.common[j] = step > 0.0 ? step * common_error((centred.row(j) / step).array().transpose()) : 0.0;
      }
      first += size;
    }
    if (i > 0) continue;
    out.drift = centred.rowwise().sum().cwiseAbs();
    out.length = centred.rowwise().norm();
    out.sum = centred.cwiseAbs().rowwise().sum();
  }
  const Matrix scaled = v * std::ldexp(1.0, -exponent_);
  const Matrix nearest = scaled.unaryExpr([](double x) { return to_e4m3(x); });
  out.v = nearest.cast<float>();
  out.v_error = (nearest - scaled).cast<float>();
  out.v_length = nearest.rowwise().norm();
  return out;
}

EightBitHead::EightBitHead(const Stripes& stripes, Index region_tokens)
    : scale_(stripes.scale), exponent_(value_exponent(stripes.v)) {
  const Matrix& k = stripes.k;
  mean_[0] = k.colwise().mean().transpose();
  for (Index start = 0; start < 2; ++start) {
    const Index count = (k.rows() - start + 1) / 2;
    mean_[1 + start] = mean_[0];
    const Matrix every_other = k(Eigen::seqN(start, count, 2), Eigen::all);
    if (count > 0) mean_[1 + start] = every_other.colwise().mean().transpose();
  }
  const std::vector<Index> blocks = key_blocks(stripes.atoms, region_tokens);
  keys_ = rounded(k, stripes.v, blocks);
  for (std::size_t block = 0; block < blocks.size(); ++block) {
    for (Index i = 0; i < blocks[block]; ++i) places_.push_back({static_cast<Index>(block), i});
  }
}

/// Up to kMostRows rows: weights of keys, and what is summed over keys, by row.
struct EightBitHead::Work {
  Index first;  // in truth
  Keys keys;    // of the block row
  std::vector<Step> steps;
  std::vector<Block> blocks;
  Vector taken;                // most that sums lose of a key's product, relative to it
  Matrix q;                    // unscaled
  Vector step;                 // of q
  Floats p;                    // normalised, [rows, keys]
  Floats square;               // variance of p, from logits and from its own rounding
  Floats most;                 // largest error of p
  Vector random, random_v;     // sum of `square`, and times |v|^2
  Vector lost, lost_v;         // sum of what codes below 8 may lose of the P_j, and times |v_j|
  Vector spread, largest;      // sum of P_j s_j; largest s_j of a key that matters
  Vector largest_most, least;  // sum of `most`; least row sum relative to the exact one
  Matrix o;                    // of the rounded v
  Vector drawn, drawn_most;    // square error of O in the draws but for the sums and what is lost: mean, largest
  Vector cut, lost_drawn;      // of the sums alone, and of what is lost alone, largest
  Vector lse_drawn, lse_cut;   // largest square errors of the lse without what is lost, and of the sums alone
  Vector common;               // nats, of q and of K: INT8's errors that all channels share
  Vector q_sum, q_common;      // of q

  void resize(Index rows, Index count) {
    for (Floats* weights : {&p, &square, &most}) weights->resize(rows, count);
    for (Vector* sums : {&step, &random, &random_v, &lost, &lost_v, &spread, &largest, &largest_most, &least, &drawn,
                         &drawn_most, &cut, &lost_drawn, &lse_drawn, &lse_cut, &common, &q_sum, &q_common}) {
      sums->setZero(rows);
    }
  }
  void lay_out(const std::vector<Place>& places);
};

/// Finds steps and blocks from where the keys are.
void EightBitHead::Work::lay_out(const std::vector<Place>& places) {
  steps.clear();
  blocks.clear();
  Index tiles = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto at = static_cast<Index>(i);
    const Place before = i == 0 ? Place{-1, 0} : places[i - 1], place = places[i];
    const bool new_block = place.block != before.block;
    const bool new_tile = new_block || place.index / kTile != before.index / kTile;
    if (new_block) blocks.push_back({at, 0});
    ++blocks.back().size;
    if (new_tile || place.index / kStep != before.index / kStep) {
      steps.push_back({at, 0, new_tile && tiles % kFlushed == 0});
    }
    ++steps.back().size;
    tiles += new_tile ? 1 : 0;
  }
  taken.resize(static_cast<Index>(places.size()));
  double left = 0.0;  // steps that an addend goes through, its own included
  for (auto last = steps.rbegin(); last != steps.rend(); ++last) {
    left += 1.0;
    taken.segment(last->first, last->size).setConstant(kAddend * (kStep + 1) * left);
    if (last->fresh) left = 0.0;
  }
}

void EightBitHead::weigh(const Matrix& q, const Matrix& p, const Vector& total, Work& work) const {
  const Keys& keys = work.keys;
  const Index count = keys.length.size();
  work.resize(q.rows(), count);
  work.q = q;
  const double dim = static_cast<double>(q.cols());
  const Eigen::ArrayXd length = keys.length.array(), steps = keys.step[0].array(), sum = keys.sum.array();
  const Eigen::ArrayXd v_square = keys.v_length.array().square();
  const double longest_sum = count > 0 ? sum.maxCoeff() : 0.0;
  Eigen::ArrayXd relative, octaves, normalised, square, spread, most, share, lost, common;
  for (Index r = 0; r < q.rows(); ++r) {
    const double step = int8_step(q.row(r).cwiseAbs().maxCoeff()), norm = q.row(r).norm();
    work.step[r] = step;
    relative = p.row(work.first + r).transpose().array();
    normalised = relative / total[work.first + r];
    square = scale_ * scale_ / 12.0 *
             ((step * step + std::pow(8.0 * kFloat * norm, 2)) * length.square() +
              (norm * norm + dim * step * step / 12.0) * steps.square());
    spread = square.sqrt();
    Index highest = 0;
    relative.maxCoeff(&highest);
    octaves = relative.log() / std::numbers::ln2;
    const double of_highest = square[highest];
    share = octaves - kSigmas / std::numbers::ln2 * (square + of_highest).sqrt().min(kMostExponent);
    share = share.unaryExpr([](double x) { return lost_share(x); });
    // e^x - 1 by its first terms where x is small: Eigen's expm1 is slow.
    square = (square < 1e-4).select(square + 0.5 * square.square(), square.min(kMostExponent).exp() - 1.0);
    square = normalised.square() * (square + kWeightSquare + share.square());
    work.random[r] = square.sum();
    work.random_v[r] = (square * v_square).sum();
    lost = share * normalised;
    work.lost[r] = lost.sum();
    work.lost_v[r] = (lost * keys.v_length.array()).sum();
    work.spread[r] = (normalised * spread).sum();
    work.largest[r] = (relative >= kRelevant).select(spread, 0.0).maxCoeff();
    work.q_sum[r] = std::abs(q.row(r).sum());
    work.q_common[r] = step > 0.0 ? step * common_error((q.row(r) / step).array().transpose()) : 0.0;
    common = scale_ * (kSampleMean * work.q_sum[r] * keys.common.array() + work.q_common[r] * keys.drift.array());
    work.common[r] =
        std::log1p((normalised * ((common < 1e-4).select(common, common.min(kMostExponent).exp() - 1.0))).sum());

    for (int i = 0; i < kPhases; ++i) {
      const double offset = kWeightOffset + kWeightSlack * i / kPhases, whole = kCodedMean * std::exp2(offset);
      double sum_of_coded = 0.0;
      for (Index j = 0; j < count; ++j) {
        const double x = octaves[j] + offset;
        sum_of_coded += x < kLeastLog2Weight ? whole * relative[j] : coded_weight(x);
      }
      const double error = sum_of_coded / (whole * total[work.first + r]) - 1.0;
      work.lse_drawn[r] = std::max(work.lse_drawn[r], error * error);
    }

    const double worst_steps = kSampleMean * (q.row(r).lpNorm<1>() / 2.0 + dim * step / 4.0);
    const double fp32 = kFloat * (16.0 + 8.0 * scale_ * norm * longest_sum);
    most = (scale_ * (step / 2.0 * sum + worst_steps * steps) + fp32).min(kMostExponent).exp();
    const double highest_most = most.maxCoeff();
    lost = (normalised * most).min(kMostLost * highest_most / total[work.first + r]);
    lost = (relative < kWhole * highest_most * most).select(lost, 0.0);
    work.least[r] = (normalised / most * (1.0 - kWeightUnit) - lost.min(normalised)).sum();
    most = normalised * (most * (1.0 + kWeightUnit) - 1.0) + lost;
    work.largest_most[r] = most.sum();
    work.p.row(r) = normalised.matrix().transpose().cast<float>();
    work.square.row(r) = square.matrix().transpose().cast<float>();
    work.most.row(r) = most.matrix().transpose().cast<float>();
  }
  work.o = (work.p * keys.v).cast<double>();
}

/// One kernel's errors: `which` chooses m and how stale the maximum is.
void EightBitHead::draw(int which, Work& work, const Vector& terms, const RowsTruth& truth) const {
  Floats numbers(work.q.rows(), work.q.cols());
  for (Index r = 0; r < work.q.rows(); ++r) {
    numbers.row(r) = (work.q.row(r) / (work.step[r] > 0.0 ? work.step[r] : 1.0)).array().round().matrix().cast<float>();
  }
  Floats weights = numbers * work.keys.k[which].transpose(), rounded(weights.rows(), weights.cols());
  Floats lost = Floats::Zero(weights.rows(), weights.cols());
  Vector totals(weights.rows()), lost_totals = Vector::Zero(weights.rows());
  const Vector& steps = work.keys.step[which];
  const double offset = kWeightOffset + kStale[which];
  Eigen::ArrayXd row;
  for (Index r = 0; r < weights.rows(); ++r) {
    row = weights.row(r).transpose().cast<double>().array() * steps.array() * (work.step[r] * scale_);
    row.tail(terms.size()) += terms.array();
    const double highest = row.maxCoeff();
    row = (row - highest) / std::numbers::ln2 + offset;
    for (Index j = 0; j < row.size(); ++j) {
      const double x = row[j];
      row[j] = coded_weight(x);
      if (!(x < kLeastLog2Weight)) continue;
      const double whole = kCodedMean * std::exp2(x);
      lost(r, j) = static_cast<float>(whole - row[j]);
      lost_totals[r] += whole - row[j];
    }
    const double total = row.sum();
    totals[r] = total;
    rounded.row(r) = row.matrix().transpose().cast<float>();
    const double lse = highest - offset * std::numbers::ln2 + std::log((total + lost_totals[r]) / kCodedMean) +
                       scale_ * work.q.row(r).dot(mean_[which]);
    work.lse_drawn[r] = std::max(work.lse_drawn[r], std::pow(lse - truth.lse[work.first + r], 2));
    weights.row(r) =
        (row / total - work.p.row(r).transpose().cast<double>().array()).matrix().transpose().cast<float>();
  }
  const Matrix error = (weights * work.keys.v).cast<double>(), sums = truncated_sums(rounded, work.keys.v, work.steps);
  Matrix lost_v = Matrix::Zero(error.rows(), error.cols());
  if (lost_totals.maxCoeff() > 0.0) lost_v = (lost * work.keys.v).cast<double>();
  for (Index r = 0; r < weights.rows(); ++r) {
    const Index dim = error.cols();
    const double total = sums(r, dim);
    const double cut = (sums.row(r).head(dim) / total - error.row(r) - work.o.row(r)).squaredNorm();
    // Had nothing been lost: o + whole = ((o + error) totals + lost_v) / (totals + lost_totals).
    const Eigen::RowVectorXd whole =
        (totals[r] * error.row(r) + lost_v.row(r) - lost_totals[r] * work.o.row(r)) / (totals[r] + lost_totals[r]);
    work.drawn[r] += whole.squaredNorm() / kDraws;
    work.drawn_most[r] = std::max(work.drawn_most[r], whole.squaredNorm());
    work.lost_drawn[r] = std::max(work.lost_drawn[r], (error.row(r) - whole).squaredNorm());
    work.cut[r] = std::max(work.cut[r], cut);
    work.lse_cut[r] = std::max(work.lse_cut[r], std::pow(std::log(total / totals[r]), 2));
  }
}

void EightBitHead::finish(const Work& work, KernelFormat element, RowsTruth& truth) const {
  const Keys& keys = work.keys;
  const Index count = keys.v.rows(), rows = work.q.rows();
  const double n = static_cast<double>(count), unit = std::ldexp(1.0, exponent_), u = element.unit_roundoff();
  const double dim = static_cast<double>(work.q.cols()), smallest = std::ldexp(1.0, element.lowest - 1);
  const Floats sizes = keys.v.cwiseAbs();
  const Matrix weight = (work.p * sizes).cast<double>(), most = (work.most * sizes).cast<double>();
  const Matrix centre = (work.square * keys.v).cast<double>();
  const Vector v_part = (work.p * keys.v_error).cast<double>().rowwise().norm();
  Vector common = Vector::Zero(rows);  // square error of O if INT8's errors that all channels share are uniform
  for (const Block& block : work.blocks) {
    const auto p = work.p.middleCols(block.first, block.size);
    const Matrix part = (p * keys.v.middleRows(block.first, block.size)).cast<double>();
    const double step = keys.common.segment(block.first, block.size).maxCoeff();
    const double drift = keys.drift.segment(block.first, block.size).maxCoeff();
    for (Index r = 0; r < rows; ++r) {
      const double error = std::min(scale_ * (work.q_sum[r] * step + work.q_common[r] * drift), kMostExponent);
      const double sum = static_cast<double>(p.row(r).sum());
      common[r] +=
          std::pow(std::expm1(error), 2) / 3.0 * (part.row(r) - sum / unit * truth.o.row(work.first + r)).squaredNorm();
    }
  }
  const Matrix most_sums =
      ((work.p + work.most) * (sizes.array().colwise() * work.taken.cast<float>().array()).matrix()).cast<double>();
  const Vector most_totals = ((work.p + work.most) * work.taken.cast<float>()).cast<double>();
  const Eigen::RowVectorXd largest_v = sizes.colwise().maxCoeff().cast<double>();
  const double longest_v = keys.v_length.maxCoeff(), longest_k = keys.length.maxCoeff();
  for (Index r = 0; r < rows; ++r) {
    const Index at = work.first + r;
    const Eigen::RowVectorXd o = truth.o.row(at) / unit;
    const double length = o.norm(), cap = longest_v * (1.0 + kValueUnit) + length;
    const double independent =
        std::max(0.0, work.random_v[r] - 2.0 * o.dot(centre.row(r)) + work.random[r] * o.squaredNorm());
    const double expected = std::sqrt(std::max(independent, work.drawn[r]) + work.cut[r] + work.lost_drawn[r] +
                                      v_part[r] * v_part[r] + kMeanSquare * u * u / 3.0 * o.squaredNorm());
    truth.row_expected[at] = unit * std::min(expected, cap);

    const double largest = kSigmas * work.largest[r];
    const double growth = largest > 0.0 ? std::expm1(std::min(largest, kMostExponent)) / largest : 1.0;
    const double random = std::max(kSigmas * growth * std::sqrt(std::max(independent, work.drawn_most[r])),
                                   kBlockSigmas * std::sqrt(common[r]));
    const double sums = kSumsRoom * std::sqrt(work.cut[r]);
    const double kept = 1.0 - std::min(work.lost[r], 1.0 - 1e-9);
    const double tolerance = random + sums + 1.25 * v_part[r] + (work.lost_v[r] + work.lost[r] * length) / kept +
                             kFloat * (4.0 * std::sqrt(n) + 64.0) * weight.row(r).norm();
    truth.row_tolerance[at] = unit * (std::min(tolerance, cap) + 2.0 * u * length) + std::sqrt(dim) * smallest;

    const double least = std::max(work.least[r] * (1.0 - kMostSums), 1e-30), all = work.largest_most[r];
    const Eigen::ArrayXd bound =
        ((most.row(r) + most_sums.row(r) + (all + most_totals[r]) * weight.row(r)).array() / least +
         (kValueUnit + kFloat * (n + 64.0)) * weight.row(r).array() + 1.0 / (1 << 10))
            .transpose();
    const Eigen::ArrayXd limit =
        (largest_v.array() * (1.0 + kValueUnit) + o.array().abs()).transpose() + 1.0 / (1 << 10);
    truth.o_bound.row(at) =
        (unit * ((1.0 + u) * bound.min(limit) + u * o.array().abs().transpose()) + smallest).matrix().transpose();

    const double mean_dot = scale_ * work.q.row(r).cwiseAbs().dot(mean_[0].cwiseAbs());
    const double fp32 = kFloat * (64.0 + n + dim * mean_dot + 16.0 * scale_ * work.q.row(r).norm() * longest_k +
                                  4.0 * std::abs(truth.lse[at]));
    const double lse_square = std::max({work.random[r], work.lse_drawn[r], std::pow(kCoherent * work.spread[r], 2)});
    const double worst = std::max(std::log1p(all), -std::log(std::max(work.least[r], 1e-30)));
    const double error = std::max(kSigmas * growth * std::sqrt(lse_square),
                                  work.common[r] + kSigmas / 2.0 * growth * std::sqrt(work.random[r]));
    const double sums_lse = std::min(kSumsRoom * std::sqrt(work.lse_cut[r]) + kLeastSums, -std::log1p(-kMostSums));
    truth.lse_bound[at] = std::min(error - std::log(kept), worst) + sums_lse + fp32;
  }
}

void EightBitHead::bound(const Matrix& q, const EightBitColumns& columns, const Matrix& p, const Vector& total,
                         KernelFormat element, RowsTruth& truth) const {
  truth.row_expected = Vector::Zero(q.rows());
  Work work;
  work.keys = keys_.rows(columns.kept);
  std::vector<Place> places;
  for (const Index token : columns.kept) places.push_back(places_[static_cast<std::size_t>(token)]);
  if (!columns.dropped.empty()) {
    const Index regions = columns.remainder->k.rows();
    std::vector<Index> tiles;
    for (Index left = regions; left > 0; left -= kPooledTile) tiles.push_back(std::min(left, kPooledTile));
    work.keys.append(rounded(columns.remainder->k, columns.remainder->v, tiles).rows(columns.dropped));
    const auto blocks = static_cast<Index>(places_.size());  // no more than that
    for (const Index i : columns.dropped) places.push_back({blocks + i / kPooledTile, i % kPooledTile});
  }
  work.lay_out(places);
  if (work.keys.length.size() == 0) return;
  for (work.first = 0; work.first < q.rows(); work.first += kMostRows) {
    weigh(q.middleRows(work.first, std::min(kMostRows, q.rows() - work.first)), p, total, work);
    for (int i = 0; i < kDraws; ++i) draw(i, work, columns.terms, truth);
    finish(work, element, truth);
  }
}

}  // namespace draft
