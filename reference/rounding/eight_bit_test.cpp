// The tolerances of 8-bit kernels against simulated ones, right and wrong.

#include "reference/rounding/eight_bit.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <optional>

#include "reference/naive.hpp"
#include "reference/rounding/eight_bit_kernel.hpp"

namespace draft {
namespace {

using Operands = EightBitChoices::Operands;
using Weights = EightBitChoices::Weights;

constexpr RegionSize kRegion{8, 8};
constexpr Index kDim = 64;
const Grid kRagged{2, 18, 27, 77};  // regions of 64, 24, 16 and 6 tokens, text blocks of 64 and 13

/// To the element type, as a kernel gets its inputs.
Problem as_bfloat16(Problem problem) {
  for (Matrix* tensor : {&problem.q, &problem.k, &problem.v}) {
    *tensor = tensor->unaryExpr([](double x) {
      if (x == 0.0) return x;
      const int exponent = std::ilogb(x) - 7;
      return std::ldexp(std::nearbyint(std::ldexp(x, -exponent)), exponent);
    });
  }
  return problem;
}

/// A call: a problem, what it keeps, and how many of its block rows are judged (from both ends).
struct Case {
  const char* name;
  std::function<Problem()> problem;
  RegionSize region = kRegion;
  double sparsity = 0.5;  // negative: dense
  Index blocks = 1000;
};

Problem normal(const Grid& grid = kRagged) { return naive::random_problem(grid, kDim, 1.0, 5); }

Problem large_logits() {
  Problem problem = normal();
  problem.q *= 5.0;
  return problem;
}

Problem outlier_channels() {
  Problem problem = normal();
  for (const Index channel : {3, 17, 40}) problem.k.col(channel) *= 50.0;
  return problem;
}

Problem outliers_that_queries_ignore() {
  Problem problem = outlier_channels();
  for (const Index channel : {3, 17, 40}) problem.q.col(channel) *= 0.02;
  return problem;
}

Problem negative_logits() {
  Problem problem = normal();
  problem.q.array() += 3.0;
  problem.k.array() -= 3.0;
  return problem;
}

Problem offset_keys() {
  Problem problem = normal();
  for (Index c = 0; c < kDim; ++c) problem.k.col(c).array() += c % 3 == 0 ? 30.0 : -20.0;
  return problem;
}

/// Values are a function of keys, so that errors of q move all weights to one side.
Problem values_follow_keys() {
  Problem problem = normal();
  problem.v = problem.k;
  return problem;
}

/// All queries are nearly alike, so that rows share the errors of keys.
Problem alike_queries() {
  Problem problem = normal();
  problem.q = 0.05 * problem.q + Vector::Ones(problem.q.rows()) * problem.q.row(0);
  return problem;
}

/// Token 5's logit is so many octaves above those of 30,000 others, which are all about equal.
Problem one_key_above(double octaves) {
  Problem problem = normal({1, 150, 200, 0});
  problem.q *= 0.01;
  problem.k *= 0.01;
  problem.q.col(0).setConstant(2.0);
  problem.k.col(0).setZero();
  problem.k(5, 0) = octaves * std::log(2.0) / 2.0 / problem.scale;
  return problem;
}

/// The others are a sixteenth of every row, and are all lost.
Problem one_key() { return one_key_above(18.75); }

/// Their values have a mean, so that what is lost of them moves O.
Problem values_beside_one_key(double octaves) {
  Problem problem = one_key_above(octaves);
  problem.v.array() += 3.0;
  problem.v.row(5).array() -= 6.0;
  return problem;
}

/// At 13.8 octaves nothing is lost, at 14.5 a third of them, at 15.2 all: they are 68%, 57% and 44% of a row.
Problem kept_keys() { return values_beside_one_key(13.8); }
Problem partly_lost_keys() { return values_beside_one_key(14.5); }
Problem lost_keys() { return values_beside_one_key(15.2); }

Problem diffuse() { return normal({1, 150, 200, 0}); }

/// Sums of 16,384 products of about the same size, in blocks of 128 keys.
Problem long_rows() {
  Problem problem = normal({1, 128, 128, 0});
  problem.q *= 0.05;
  problem.v.array() += 1.0;
  return problem;
}

/// Keys are constant over channels but for little noise, queries have a mean, and the second frame's logits are so far
/// above the others: all channels share K's errors.
Problem two_levels_apart(double nats) {
  Problem problem = normal();
  problem.q.array() += 1.0;
  problem.k *= 0.1;
  const Index frame = kRagged.height * kRagged.width;
  problem.k.middleRows(frame, frame).array() += nats / (problem.scale * kDim);
  return problem;
}
Problem two_levels() { return two_levels_apart(300.0); }
/// Weights below the smallest double.
Problem far_levels() { return two_levels_apart(900.0); }

/// The same with a level for each row of the latent, a nat apart: blocks of the same step have keys of many levels.
Problem many_levels() {
  Problem problem = two_levels();
  for (Index i = 0; i < kRagged.video(); ++i) {
    problem.k.row(i).array() += static_cast<double>(i / kRagged.width % 7) / (problem.scale * kDim);
  }
  return problem;
}

Problem one_block() { return naive::one_block_holds_all(kRagged, kDim, 9.0); }

void PrintTo(const Case& a, std::ostream* out) { *out << a.name; }

const Case kCases[] = {{"normal", [] { return normal(); }},
                       {"dense", [] { return normal(); }, kRegion, -1.0},
                       {"large_regions", [] { return normal(); }, {16, 16}},
                       {"one_token_regions", [] { return normal({1, 9, 11, 3}); }, {1, 1}},
                       {"sparse", [] { return normal(); }, kRegion, 0.9},
                       {"large_logits", large_logits},
                       {"outlier_channels", outlier_channels},
                       {"outliers_that_queries_ignore", outliers_that_queries_ignore},
                       {"negative_logits", negative_logits},
                       {"offset_keys", offset_keys},
                       {"values_follow_keys", values_follow_keys},
                       {"alike_queries", alike_queries},
                       {"one_block", one_block},
                       {"one_key", one_key, kRegion, -1.0, 1},
                       {"kept_keys", kept_keys, kRegion, -1.0, 1},
                       {"partly_lost_keys", partly_lost_keys, kRegion, -1.0, 1},
                       {"lost_keys", lost_keys, kRegion, -1.0, 1},
                       {"diffuse", diffuse, kRegion, -1.0, 1},
                       {"long_rows", long_rows, {8, 16}, -1.0, 1},
                       {"two_levels", two_levels},
                       {"two_levels_dense", two_levels, kRegion, -1.0},
                       {"many_levels", many_levels}};

/// A case made: masks, truth, the blocks to judge.
struct Call {
  explicit Call(const Case& of)
      : problem(as_bfloat16(of.problem())),
        region(of.region),
        truth(problem, region, kBfloat16Format, Arithmetic::eight_bit),
        pooled(pooled_rows(problem, truth.partition())),
        mask(truth.partition().regions(), true) {
    if (of.sparsity >= 0.0)
      mask = select(draft_scores(problem, truth.partition(), Pool::average), Rule::row, of.sparsity);
    for (Index block = 0; block < truth.blocks(); ++block) {
      if (block < of.blocks || block >= truth.blocks() - of.blocks) blocks.push_back(block);
    }
  }

  /// Of one block row; made once, as it takes longer than a kernel's.
  [[nodiscard]] const RowsTruth& wanted(Index block, bool remainder) const {
    std::optional<RowsTruth>& rows = made[{block, remainder}];
    if (!rows) rows = truth.rows(mask, block, remainder ? &pooled : nullptr);
    return *rows;
  }
  [[nodiscard]] KernelError judge(const std::function<Output(Index)>& rows, bool remainder = false) const {
    KernelError error;
    for (const Index block : blocks) {
      const Output found = rows(block);
      error.add(wanted(block, remainder), block, found.o, found.lse);
    }
    return error;
  }
  [[nodiscard]] KernelError judge(const EightBitChoices& choices, bool remainder = false) const {
    const EightBitKernel kernel(problem, region, choices);
    return judge([&](Index block) { return kernel.rows(mask, block, remainder ? &pooled : nullptr); }, remainder);
  }

  Problem problem;
  RegionSize region;
  KernelTruth truth;
  PooledRows pooled;
  BlockMask mask;
  std::vector<Index> blocks;
  mutable std::map<std::pair<Index, bool>, std::optional<RowsTruth>> made;
};

void expect_finite(const RowsTruth& rows) {
  EXPECT_TRUE(rows.o_bound.allFinite() && rows.row_tolerance.allFinite() && rows.lse_bound.allFinite() &&
              rows.row_expected.allFinite());
}

std::string to_string(const KernelError& error) {
  return "element " + std::to_string(error.element_over_bound) + ", row " + std::to_string(error.row_over_tolerance) +
         ", lse " + std::to_string(error.lse_over_bound) + ", total " + std::to_string(error.total_over_expected()) +
         ", relative error " + std::to_string(error.rel_l2().value_or(0.0));
}

/// The mean of every seventh key.
Vector sample_mean(const Problem& problem) {
  const Matrix sample = problem.k(Eigen::seqN(0, (problem.k.rows() + 6) / 7, 7), Eigen::all);
  return sample.colwise().mean().transpose();
}

/// Of a case, under AddressSanitizer, the first and the last block: it looks at paths, and takes tens of times as long.
Case with_few_blocks(Case of) {
#ifdef __SANITIZE_ADDRESS__
  if (of.region.height * of.region.width > 1) of.blocks = 1;  // of one token: no row whose error can be judged
#endif
  return of;
}

class EightBit : public testing::TestWithParam<Case> {};

// Claim: a kernel that rounds as is described passes, with m the mean of all or of some keys and with both kinds of
// running maximum; and what is allowed is finite, above 0 and not too generous: some row's error is at least a
// twentieth of its tolerance, and all together are at least half of what is expected, a third of the limit of 1.5.
TEST_P(EightBit, AKernelThatOnlyRoundsPasses) {
  const Call call(with_few_blocks(GetParam()));
  for (const bool remainder : {false, true}) {
    if (remainder && GetParam().sparsity < 0.0) continue;  // drops nothing
    for (const Index block : call.blocks) {
      const RowsTruth& rows = call.wanted(block, remainder);
      expect_finite(rows);
      EXPECT_GT(rows.o_bound.minCoeff(), 0.0);
      EXPECT_GT(rows.row_expected.minCoeff(), 0.0);
    }
    for (const bool sample : {false, true}) {
      EightBitChoices choices;
      if (sample) choices.mean = sample_mean(call.problem);
      choices.slack = sample ? 0.0 : kWeightSlack;
      const KernelError error = call.judge(choices, remainder);
      EXPECT_TRUE(error.fine()) << to_string(error);
      RecordProperty(std::string(remainder ? "remainder" : "none") + (sample ? "_sample" : ""), to_string(error));
      EXPECT_GE(error.row_over_tolerance, 1.0 / 20.0);
      EXPECT_GE(error.total_over_expected(), 1.0 / 3.0);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, EightBit, testing::ValuesIn(kCases),
                         [](const auto& of) { return std::string(of.param.name); });

// Given weights below the smallest double, claim: bounds are finite all the same, and what only rounds passes.
TEST(EightBitKernel, WeightsMayUnderflow) {
  const Call call({"far_levels", far_levels, kRegion, -1.0});
  for (const Index block : call.blocks) expect_finite(call.wanted(block, false));
  const KernelError error = call.judge(EightBitChoices{});
  EXPECT_TRUE(error.fine()) << to_string(error);
}

// Claim: a float16 output passes too.
TEST(EightBitKernel, HasAnyElementType) {
  const Problem problem = as_bfloat16(normal());
  const KernelTruth truth(problem, kRegion, kFloat16Format, Arithmetic::eight_bit);
  const EightBitKernel kernel(problem, kRegion, {.element = kFloat16Format});
  const BlockMask mask(truth.partition().regions(), true);
  KernelError error;
  for (Index block = 0; block < truth.blocks(); ++block) {
    const Output found = kernel.rows(mask, block);
    error.add(truth.rows(mask, block), block, found.o, found.lse);
  }
  EXPECT_TRUE(error.fine()) << to_string(error);
}

// Negative controls on a plain problem, where the errors' sizes are known: each mistake is found by the check that
// should find it.
class EightBitMistakes : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(call.judge(EightBitChoices{}).fine()); }
  const Call call{{"normal", [] { return normal(); }}};
};

// A tenth of O is about two or three times its rounding: no row alone shows it.
TEST_F(EightBitMistakes, AWrongScaleOfVIsSeen) {
  const EightBitKernel kernel(call.problem, kRegion);
  const KernelError error = call.judge([&](Index block) {
    Output rows = kernel.rows(call.mask, block);
    rows.o *= 1.1;
    return rows;
  });
  EXPECT_GT(error.total_over_expected(), 1.0) << to_string(error);
  RecordProperty("error", to_string(error));
}

TEST_F(EightBitMistakes, AForgottenMeanIsSeenInTheLse) {
  const Call other({"offset_keys", offset_keys});
  EightBitChoices choices;
  choices.forgets_mean = true;
  const KernelError error = other.judge(choices);
  EXPECT_GT(error.lse_over_bound, 1.0);
  EXPECT_LE(error.row_over_tolerance, 1.0);
  EXPECT_LE(error.total_over_expected(), 1.0);
}

// One block of 64 keys, of about 600 that a row attends to.
TEST_F(EightBitMistakes, ADroppedBlockIsSeen) {
  const EightBitKernel kernel(call.problem, kRegion);
  int seen = 0;
  for (Index row = 0; row < call.mask.regions(); ++row) {
    if (call.truth.partition().size(row) < 64) continue;
    BlockMask other = call.mask;
    for (const Index column : call.mask.columns(row)) {
      if (call.truth.partition().size(column) < 64) continue;
      other.set(row, column, false);
      break;
    }
    ASSERT_NE(other, call.mask);
    KernelError error;  // of this block row alone: the others are right
    const Output found = kernel.rows(other, row);
    error.add(call.wanted(row, false), row, found.o, found.lse);
    EXPECT_GT(error.row_over_tolerance, 1.0) << to_string(error);
    EXPECT_GT(error.lse_over_bound, 1.0) << to_string(error);
    ++seen;
  }
  EXPECT_EQ(seen, 12);
}

TEST_F(EightBitMistakes, TwoBitsOfPAreSeen) {
  EightBitChoices choices;
  choices.p_bits = 2;
  const KernelError error = call.judge(choices);
  EXPECT_GT(error.total_over_expected(), 1.0) << to_string(error);
  RecordProperty("error", to_string(error));
}

// 0.04 nats in every row.
TEST_F(EightBitMistakes, AForgottenMeanOfCodedWeightsIsSeenInTheLse) {
  const EightBitKernel kernel(call.problem, kRegion);
  const KernelError error = call.judge([&](Index block) {
    Output rows = kernel.rows(call.mask, block);
    rows.lse.array() += std::log(kCodedMean);
    return rows;
  });
  EXPECT_GT(error.lse_over_bound, 1.0) << to_string(error);
}

// Given keys that the rule keeps, or of which it loses a third, claim: a kernel that loses more of them, as weights
// that are smaller by an octave are, is found in the lse and in single rows.
TEST_F(EightBitMistakes, LosingMoreThanTheRuleDoesIsSeen) {
  for (const Case& given :
       {Case{"kept_keys", kept_keys, kRegion, -1.0, 1}, {"partly_lost_keys", partly_lost_keys, kRegion, -1.0, 1}}) {
    const Call other(given);
    EightBitChoices choices;
    choices.offset = kWeightOffset - 1.0;
    const KernelError error = other.judge(choices);
    EXPECT_GT(error.lse_over_bound, 1.0) << given.name << ": " << to_string(error);
    EXPECT_GT(error.row_over_tolerance, 1.0) << given.name << ": " << to_string(error);
    RecordProperty(given.name, to_string(error));
  }
}

TEST_F(EightBitMistakes, AWrongStepOfOneBlockIsSeen) {
  EightBitChoices choices;
  choices.wrong_block = 4;
  choices.wrong_step = 1.1;
  const KernelError error = call.judge(choices);
  EXPECT_FALSE(error.fine()) << to_string(error);
  RecordProperty("error", to_string(error));
}

TEST_F(EightBitMistakes, AForgottenRemainderIsSeen) {
  const EightBitKernel kernel(call.problem, kRegion);
  EXPECT_FALSE(call.judge([&](Index block) { return kernel.rows(call.mask, block); }, true).fine());
  EXPECT_FALSE(call.judge([&](Index block) { return kernel.rows(call.mask, block, &call.pooled); }, false).fine());
}

// Sums of 8,192 keys in accumulators of 13 fraction bits lose what is not noise.
TEST_F(EightBitMistakes, SumsThatAreTooLongAreSeen) {
  const Call other({"long_rows", long_rows, {8, 16}, -1.0, 1});
  EightBitChoices choices;
  choices.tiles_in_sums = 64;
  const KernelError error = other.judge(choices);
  EXPECT_GT(error.lse_over_bound, 1.0) << to_string(error);
  RecordProperty("error", to_string(error));
}

TEST_F(EightBitMistakes, NaNIsSeen) {
  const EightBitKernel kernel(call.problem, kRegion);
  const KernelError error = call.judge([&](Index block) {
    Output rows = kernel.rows(call.mask, block);
    if (block == 2) rows.o(1, 1) = std::numeric_limits<double>::quiet_NaN();
    return rows;
  });
  EXPECT_FALSE(error.fine());
  EXPECT_TRUE(std::isnan(error.total_over_expected()));
}

// Given a row that keeps nothing, claim: only 0 and -inf pass.
TEST(EightBitKernel, EmptyRowsAreZero) {
  const Problem problem = as_bfloat16(normal({1, 8, 32, 0}));
  const KernelTruth truth(problem, kRegion, kBfloat16Format, Arithmetic::eight_bit);
  const EightBitKernel kernel(problem, kRegion);
  BlockMask mask(4, true);
  for (Index column = 0; column < 4; ++column) mask.set(1, column, false);
  KernelError error;
  for (Index block = 0; block < 4; ++block) {
    const Output found = kernel.rows(mask, block);
    error.add(truth.rows(mask, block), block, found.o, found.lse);
  }
  EXPECT_TRUE(error.fine()) << to_string(error);
  Output wrong = kernel.rows(mask, 1);
  wrong.o(0, 0) = 1e-30;
  KernelError of_wrong = error;
  of_wrong.add(truth.rows(mask, 1), 1, wrong.o, wrong.lse);
  EXPECT_FALSE(of_wrong.fine());
  wrong = kernel.rows(mask, 1);
  wrong.lse[0] = -80.0;
  error.add(truth.rows(mask, 1), 1, wrong.o, wrong.lse);
  EXPECT_FALSE(error.fine());
}

// Claim: NaN in a key or a query passes on to the rows that see it, and nothing passes for it.
TEST(EightBitKernel, PassesNaNOn) {
  Problem problem = normal({1, 8, 32, 0});
  problem.q(3, 2) = std::numeric_limits<double>::quiet_NaN();
  const EightBitKernel kernel(problem, kRegion);
  const BlockMask mask(4, true);
  const Output found = kernel.rows(mask, 0);
  EXPECT_TRUE(found.o.row(3).array().isNaN().all());
  EXPECT_FALSE(found.o.row(2).hasNaN());
  const KernelTruth truth(problem, kRegion, kBfloat16Format, Arithmetic::eight_bit);
  KernelError error;
  error.add(truth.rows(mask, 0), 0, found.o, found.lse);
  EXPECT_FALSE(error.fine());
}

TEST(EightBitNumbers, ValuesAreScaledByTheirSize) {
  EXPECT_EQ(value_exponent(Matrix::Zero(3, 4)), 0);
  EXPECT_EQ(value_exponent(Matrix::Constant(3, 4, -1.5)), 0);
  EXPECT_EQ(value_exponent(Matrix::Constant(3, 4, 1e-5)), -17);
  Matrix outlier = Matrix::Constant(1000, 1000, 1.0);
  outlier(0, 0) = 500.0;  // above 448 * 2^0: 2^8 <= 500, so 2^1 is the scale
  EXPECT_EQ(value_exponent(outlier), 1);
}

/// Relative L2 error of all rows of a call.
double error_of(const Call& call, const EightBitChoices& choices) { return call.judge(choices).rel_l2().value(); }

/// One kind of rounding alone.
EightBitChoices only(Operands operands, Weights weights, bool v) {
  EightBitChoices choices;
  choices.queries_and_keys = operands;
  choices.weights = weights;
  choices.rounds_v = v;
  choices.rounds_sums = choices.rounds_o = false;
  return choices;
}

// Claim: of queries and keys with normal numbers INT8 loses less than E4M3; what each kind of rounding costs. Weights
// err by their root mean square, E4M3's nearest numbers by a sixth less; to 10%: the largest weight of a row always has
// the same code, which is 0.9% less than coded weights are on average.
TEST(EightBitKernel, Int8LosesLessThanE4M3) {
  const Call call({"dense", [] { return normal({2, 16, 32, 0}); }, kRegion, -1.0});
  EightBitChoices e4m3, nearest;
  e4m3.queries_and_keys = Operands::e4m3;
  nearest.weights = Weights::nearest;
  const double int8_only = error_of(call, only(Operands::int8, Weights::exact, false));
  const double e4m3_only = error_of(call, only(Operands::e4m3, Weights::exact, false));
  const double coded_only = error_of(call, only(Operands::exact, Weights::coded, false));
  const double nearest_only = error_of(call, only(Operands::exact, Weights::nearest, false));
  EXPECT_LT(int8_only, 0.5 * e4m3_only);
  EXPECT_NEAR(coded_only, std::sqrt(9.87e-4), 0.1 * coded_only);
  EXPECT_NEAR(nearest_only, std::sqrt(0.54 / 3.0) / 16, 0.1 * nearest_only);
  RecordProperty("all_int8", std::to_string(error_of(call, EightBitChoices{})));
  RecordProperty("all_e4m3", std::to_string(error_of(call, e4m3)));
  RecordProperty("all_int8_nearest_p", std::to_string(error_of(call, nearest)));
  RecordProperty("qk_int8", std::to_string(int8_only));
  RecordProperty("qk_e4m3", std::to_string(e4m3_only));
  RecordProperty("p", std::to_string(coded_only));
  RecordProperty("p_nearest", std::to_string(nearest_only));
  RecordProperty("v", std::to_string(error_of(call, only(Operands::exact, Weights::exact, true))));
  EXPECT_LT(error_of(call, only(Operands::exact, Weights::exact, false)), 1e-12);
}

}  // namespace
}  // namespace draft
