#include "reference/rounding/kernel_error.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "reference/naive.hpp"

namespace draft {
namespace {

constexpr RegionSize kRegion{8, 16};

/// Nearest number of the format, ties to even. Computed independently of the code under test: by exponent and
/// nearbyint.
double rounded(double x, KernelFormat format) {
  if (x == 0.0) return x;
  const int exponent = std::max(std::ilogb(x) - format.bits + 1, format.lowest);
  return std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
}

/// A kernel simulated on the CPU: float32, tiles of `tile` keys with a running maximum, P and O rounded to the format.
/// `slack`: the running maximum is raised only if it grew by more than this. `backwards`: goes from the last tile to
/// the first. `lost`: leaves out this key, as a wrong kernel would.
Output kernel(const Problem& problem, const Partition& partition, const BlockMask& mask, KernelFormat format,
              Index tile, float slack, bool backwards = false, Index lost = -1) {
  const Matrix allowed = naive::allowed(partition, mask);
  Output output{Matrix::Zero(problem.q.rows(), problem.q.cols()), Vector(problem.q.rows())};
  const Eigen::MatrixXf q = problem.q.cast<float>(), k = problem.k.cast<float>(), v = problem.v.cast<float>();
  for (Index u = 0; u < q.rows(); ++u) {
    float shift = -std::numeric_limits<float>::infinity(), total = 0.0F;
    Eigen::RowVectorXf sum = Eigen::RowVectorXf::Zero(v.cols());
    const Index tiles = (k.rows() + tile - 1) / tile;
    for (Index t = 0; t < tiles; ++t) {
      const Index first = (backwards ? tiles - 1 - t : t) * tile;
      std::vector<std::pair<Index, float>> logits;
      float highest = -std::numeric_limits<float>::infinity();
      for (Index c = first; c < std::min(first + tile, k.rows()); ++c) {
        if (allowed(u, c) == 0.0 || c == lost) continue;
        logits.emplace_back(c, static_cast<float>(problem.scale) * q.row(u).dot(k.row(c)));
        highest = std::max(highest, logits.back().second);
      }
      if (logits.empty()) continue;
      if (!(highest - shift <= slack)) {
        const float shrink = std::exp(shift - highest);
        sum *= shrink;
        total *= shrink;
        shift = highest;
      }
      for (const auto& [c, logit] : logits) {
        const float p = std::exp(logit - shift);
        total += p;
        sum += static_cast<float>(rounded(static_cast<double>(p), format)) * v.row(c);
      }
    }
    output.lse[u] =
        total > 0.0F ? static_cast<double>(shift + std::log(total)) : -std::numeric_limits<double>::infinity();
    for (Index d = 0; d < v.cols() && total > 0.0F; ++d) {
      output.o(u, d) = rounded(static_cast<double>(sum[d] / total), format);
    }
  }
  return output;
}

/// A random problem whose inputs are numbers of the format.
Problem problem_for(KernelFormat format, double spread, const Grid& grid = {2, 9, 17, 13}) {
  Problem problem = naive::random_problem(grid, 64, spread, 21);
  for (Matrix* tensor : {&problem.q, &problem.k, &problem.v}) {
    *tensor = tensor->unaryExpr([&](double x) { return rounded(x, format); });
  }
  return problem;
}

BlockMask some_mask(const Problem& problem, const Partition& partition) {
  BlockMask mask = select(draft_scores(problem, partition, Pool::average), Rule::logits, 0.6);
  for (Index column = 0; column < partition.regions(); ++column) mask.set(2, column, false);  // text alone
  return mask;
}

KernelError judge(const KernelTruth& truth, const BlockMask& mask, const Output& output,
                  const PooledRows* remainder = nullptr) {
  KernelError error;
  for (Index block = 0; block < truth.blocks(); ++block) {
    const RowsTruth rows = truth.rows(mask, block, remainder);
    Matrix o(rows.o.rows(), rows.o.cols());
    Vector lse(rows.o.rows());
    for (Index r = 0; r < o.rows(); ++r) {
      o.row(r) = output.o.row(rows.tokens[r]);
      lse[r] = output.lse[rows.tokens[r]];
    }
    error.add(rows, block, o, lse);
  }
  return error;
}

class Formats : public testing::TestWithParam<KernelFormat> {};

// Claim: the truth's rows equal attend()'s, on a ragged grid with text, and cover every token once.
TEST_P(Formats, RowsAreTheReferences) {
  const Problem problem = problem_for(GetParam(), 1.5);
  const KernelTruth truth(problem, kRegion, GetParam());
  const BlockMask mask = some_mask(problem, truth.partition());
  const KernelError error = judge(truth, mask, attend(problem, truth.partition(), mask));
  EXPECT_EQ(error.rows, problem.grid.tokens());
  EXPECT_LE(error.max_abs, 1e3 * std::numeric_limits<double>::epsilon() * problem.v.cwiseAbs().maxCoeff());
  EXPECT_TRUE(error.fine());
}

// Claim: with a pooled remainder too, and its truth is another than without.
TEST_P(Formats, RowsWithARemainderAreTheReferences) {
  const Problem problem = problem_for(GetParam(), 1.5);
  const KernelTruth truth(problem, kRegion, GetParam());
  const BlockMask mask = some_mask(problem, truth.partition());
  const PooledRows remainder = pooled_rows(problem, truth.partition());
  const Output output = attend(problem, truth.partition(), mask, &remainder);
  const KernelError error = judge(truth, mask, output, &remainder);
  EXPECT_EQ(error.rows, problem.grid.tokens());
  EXPECT_LE(error.max_abs, 1e3 * std::numeric_limits<double>::epsilon() * problem.v.cwiseAbs().maxCoeff());
  EXPECT_TRUE(error.fine());
  EXPECT_FALSE(judge(truth, mask, output).fine());
  EXPECT_FALSE(judge(truth, mask, attend(problem, truth.partition(), mask), &remainder).fine());
}

// Claim: a correct kernel passes, whatever its tiles and its running maximum, on diffuse and on peaked attention; and
// the tolerance is not too generous: the error is at least a twentieth of it.
TEST_P(Formats, AKernelThatOnlyRoundsPasses) {
  for (const double spread : {0.3, 1.5, 4.0}) {
    const Problem problem = problem_for(GetParam(), spread);
    const KernelTruth truth(problem, kRegion, GetParam());
    const BlockMask mask = some_mask(problem, truth.partition());
    for (const Index tile : {16, 64, 400}) {
      for (const float slack : {0.0F, 5.5F}) {
        for (const bool backwards : {false, true}) {
          const KernelError error =
              judge(truth, mask, kernel(problem, truth.partition(), mask, GetParam(), tile, slack, backwards));
          EXPECT_TRUE(error.fine()) << "spread " << spread << " tile " << tile << ": " << error.element_over_bound
                                    << ' ' << error.row_over_tolerance << ' ' << error.lse_over_bound;
          EXPECT_GE(error.row_over_tolerance, 0.05);
        }
      }
    }
  }
}

/// A problem in which P relative to the row's maximum is exact: logits are log p with p = 1 - j / 2^bits, numbers of
/// the format. The first tile has log p = -1 and values 0, so that a kernel starts with a lower running maximum and
/// does round P. Values are such that P averages them to 0, so that the output consists of P's rounding alone.
Problem exact_at_its_maximum(KernelFormat format) {
  Problem problem = problem_for(format, 1.0);
  problem.scale = 1.0;
  problem.q.setZero();
  problem.q.leftCols(3).setOnes();
  problem.k.setZero();
  Vector weight(problem.k.rows());
  for (Index key = 0; key < weight.size(); ++key) {
    const double steps = std::ldexp(1.0, format.bits);
    weight[key] =
        key < 16 ? std::exp(-1.0) : 1.0 - static_cast<double>(key * 37 % (static_cast<Index>(steps) / 2)) / steps;
    double left = std::log(weight[key]);
    for (Index part = 0; part < 3; ++part) {
      problem.k(key, part) = rounded(left, format);
      left -= problem.k(key, part);
    }
  }
  problem.v.topRows(16).setZero();
  weight.head(16).setZero();
  for (int pass = 0; pass < 3; ++pass) {  // the second and third pass subtract the mean that rounding left
    const Eigen::RowVectorXd mean = weight.transpose() * problem.v / weight.sum();
    problem.v.bottomRows(weight.size() - 16).rowwise() -= mean;
    problem.v = problem.v.unaryExpr([&](double x) { return rounded(x, format); });
  }
  return problem;
}

// Given P that is exact relative to the row's maximum and outputs that cancel, claim: a kernel with another running
// maximum, which rounds P, passes with a margin. It would not if the tolerance were computed from that one scaling of
// P.
TEST_P(Formats, ATolerancesOwnScalingIsNoExcuse) {
  const Problem problem = exact_at_its_maximum(GetParam());
  const KernelTruth truth(problem, kRegion, GetParam());
  const BlockMask mask(truth.partition().regions(), true);
  for (const Index tile : {8, 16}) {
    const KernelError error = judge(truth, mask, kernel(problem, truth.partition(), mask, GetParam(), tile, 5.5F));
    EXPECT_LE(error.row_over_tolerance, 0.75);
    EXPECT_LE(error.element_over_bound, 0.75);
    EXPECT_GE(error.row_over_tolerance, 0.05);
    EXPECT_TRUE(error.fine());
  }
}

// Given equal logits, so that all p have the same rounding error and it does not average out, claim: a correct kernel
// passes, for any running maximum.
TEST_P(Formats, EqualWeightsPass) {
  Problem problem = problem_for(GetParam(), 1.0);
  problem.q.setConstant(0.25);
  problem.k.setConstant(0.5);
  problem.k.topRows(100).setConstant(0.375);
  problem.v.col(0).setConstant(1.0);
  const KernelTruth truth(problem, kRegion, GetParam());
  const BlockMask mask(truth.partition().regions(), true);
  for (const float slack : {0.0F, 5.5F}) {
    EXPECT_TRUE(judge(truth, mask, kernel(problem, truth.partition(), mask, GetParam(), 64, slack)).fine());
  }
}

// Negative controls: errors of a wrong kernel in one row or one block are found.
TEST_P(Formats, PlantedErrorsAreSeen) {
  const Problem problem = problem_for(GetParam(), 0.3);
  const KernelTruth truth(problem, kRegion, GetParam());
  const BlockMask mask = some_mask(problem, truth.partition());
  const Output right = kernel(problem, truth.partition(), mask, GetParam(), 64, 0.0F);
  ASSERT_TRUE(judge(truth, mask, right).fine());
  Output wrong = right;
  wrong.o.row(40) *= 1.02;
  EXPECT_GT(judge(truth, mask, wrong).row_over_tolerance, 1.0);

  BlockMask other = mask;  // one wrong block index
  for (Index kept = 0; kept < other.regions(); ++kept) {
    if (!other.kept(1, kept)) continue;
    other.set(1, kept, false);
    other.set(1, (kept + 1) % other.regions(), true);
    break;
  }
  ASSERT_NE(other, mask);
  const KernelError error = judge(truth, mask, kernel(problem, truth.partition(), other, GetParam(), 64, 0.0F));
  EXPECT_GT(error.row_over_tolerance, 1.0);
  EXPECT_EQ(error.worst_block, 1);

  // One key of about 300 is left out.
  const Output forgetful =
      kernel(problem, truth.partition(), mask, GetParam(), 64, 0.0F, false, problem.grid.tokens() - 1);
  EXPECT_GT(judge(truth, mask, forgetful).row_over_tolerance, 1.0);

  wrong = right;
  wrong.o(3, 5) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(judge(truth, mask, wrong).fine());
  wrong = right;
  wrong.lse[7] += 0.01;
  EXPECT_GT(judge(truth, mask, wrong).lse_over_bound, 1.0);
  EXPECT_FALSE(KernelError{}.fine()) << "nothing was judged";
}

// Given a row that keeps nothing, claim: only 0 and -inf pass.
TEST_P(Formats, EmptyRowsAreZero) {
  const Problem problem = problem_for(GetParam(), 1.0, {1, 8, 32, 0});
  const KernelTruth truth(problem, kRegion, GetParam());
  BlockMask mask(2, true);
  mask.set(1, 0, false);
  mask.set(1, 1, false);
  Output output = attend(problem, truth.partition(), mask);
  EXPECT_TRUE(judge(truth, mask, output).fine());
  output.o(16, 0) = 1e-30;  // row 0, column 16: of region 1
  EXPECT_FALSE(judge(truth, mask, output).fine());
  output.o(16, 0) = 0.0;
  output.lse[16] = -80.0;
  EXPECT_FALSE(judge(truth, mask, output).fine());
}

INSTANTIATE_TEST_SUITE_P(Kernel, Formats, testing::Values(kBfloat16Format, kFloat16Format),
                         [](const auto& format) { return format.param.bits == 8 ? "bfloat16" : "float16"; });

TEST(KernelTruth, RefusesAMaskOfOtherRegions) {
  const Problem problem = problem_for(kBfloat16Format, 1.0);
  const KernelTruth truth(problem, kRegion, kBfloat16Format);
  EXPECT_THROW(static_cast<void>(truth.rows(BlockMask(3, true), 0)), std::invalid_argument);
  EXPECT_THROW(static_cast<void>(truth.rows(BlockMask(truth.partition().regions(), true), truth.blocks())),
               std::invalid_argument);
  const PooledRows fewer{Matrix::Zero(3, 64), Matrix::Zero(3, 64)};
  EXPECT_THROW(static_cast<void>(truth.rows(BlockMask(truth.partition().regions(), true), 0, &fewer)),
               std::invalid_argument);
}

}  // namespace
}  // namespace draft
