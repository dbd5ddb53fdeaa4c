// Each kind has the property that its name promises.

#include "harness/numbers/synthetic.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "reference/draft_mask.hpp"

namespace draft {
namespace {

constexpr Grid kGrid{2, 16, 32, 8};  // 8 regions of 8 x 16, 1024 video tokens

SyntheticSpec spec_of(SyntheticKind kind) { return {kind, kGrid, 4, 2, 64, 7}; }

/// Scaled logits of all video rows and columns.
Matrix video_logits(const Problem& problem) {
  const Index video = problem.grid.video();
  return problem.q.topRows(video) * problem.k.topRows(video).transpose() * problem.scale;
}

/// max |S_uv - S~_ij| over the spread of S, both scaled.
double relative_delta(const Problem& problem) {
  const Partition partition(problem.grid, RegionSize{});
  const Matrix pooled = draft_scores(problem, partition, Pool::average).logits * problem.scale;
  const Matrix logits = video_logits(problem);
  const std::vector<Index> region_of = partition.region_of_token();
  double delta = 0.0;
  for (Index u = 0; u < logits.rows(); ++u) {
    for (Index v = 0; v < logits.cols(); ++v) {
      delta = std::max(delta, std::abs(logits(u, v) - pooled(region_of[u], region_of[v])));
    }
  }
  return delta / (logits.maxCoeff() - logits.minCoeff());
}

Matrix softmax(Matrix logits) {
  for (Index u = 0; u < logits.rows(); ++u) {
    logits.row(u) = (logits.row(u).array() - logits.row(u).maxCoeff()).exp();
    logits.row(u) /= logits.row(u).sum();
  }
  return logits;
}

class EveryKind : public testing::TestWithParam<SyntheticKind> {};
INSTANTIATE_TEST_SUITE_P(Synthetic, EveryKind, testing::ValuesIn(synthetic_kinds()), [](const auto& test) {
  std::string name = to_string(test.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// Given: any kind. Claim: valid, the same for the same seed, other numbers for another seed and another head, K and V
// shared within a group.
TEST_P(EveryKind, IsDeterministic) {
  const SyntheticSpec spec = spec_of(GetParam());
  SyntheticSpec other_seed = spec;
  other_seed.seed = 8;
  const Problem head = synthetic_head(spec, 2);
  EXPECT_NO_THROW(require_valid(head));
  EXPECT_EQ(head.q, synthetic_head(spec, 2).q);
  EXPECT_EQ(head.k, synthetic_head(spec, 2).k);
  EXPECT_NE(head.q, synthetic_head(other_seed, 2).q);
  EXPECT_NE(head.v, synthetic_head(other_seed, 2).v);
  EXPECT_NE(head.q, synthetic_head(spec, 3).q);
  EXPECT_EQ(head.k, synthetic_head(spec, 3).k);
  EXPECT_EQ(head.v, synthetic_head(spec, 3).v);
  EXPECT_NE(head.k, synthetic_head(spec, 0).k);
  EXPECT_EQ(parse_synthetic_kind(to_string(GetParam())), GetParam());
}

// Given: seed 7, head 0. Claim: Q's numbers are those that an independent program for splitmix64 and the sum of twelve
// gave. If they changed, the seeds in old records would stand for other numbers.
TEST(Synthetic, FirstNumbersStayWhatTheyAre) {
  const Problem head = synthetic_head(spec_of(SyntheticKind::iid), 0);
  EXPECT_EQ(head.q(0, 0), -74838.0 / 65536.0);
  EXPECT_EQ(head.q(0, 1), -121497.0 / 65536.0);
  EXPECT_EQ(head.q(kGrid.tokens() - 1, 63), 85264.0 / 65536.0);
}

// Given: iid. Claim: mean 0 and variance 1 within five standard errors, within 6, Q and K unrelated; pooling loses the
// structure: regions' logits are smaller than tokens' by about the region size.
TEST(Synthetic, IidIsNormalAndWithoutStructure) {
  const Problem head = synthetic_head(spec_of(SyntheticKind::iid), 0);
  const auto count = static_cast<double>(head.q.size());
  for (const Matrix* m : {&head.q, &head.k, &head.v}) {
    EXPECT_LE(std::abs(m->mean()), 5.0 / std::sqrt(count));
    EXPECT_LE(std::abs(m->squaredNorm() / count - 1.0), 5.0 * std::sqrt(2.0 / count));
    EXPECT_LE(m->cwiseAbs().maxCoeff(), 6.0);
  }
  EXPECT_LE(std::abs(head.q.cwiseProduct(head.k).mean()), 5.0 / std::sqrt(count));
  const Matrix pooled = draft_scores(head, Partition(kGrid, RegionSize{}), Pool::average).logits;
  EXPECT_LE(pooled.cwiseAbs().maxCoeff() * 20.0, video_logits(head).cwiseAbs().maxCoeff() / head.scale);
}

// Given: block-smooth. Claim: a block's logits are within a tenth of the spread of their pooled one; iid is far off
// (the control).
TEST(Synthetic, BlockSmoothPoolsWell) {
  EXPECT_LE(relative_delta(synthetic_head(spec_of(SyntheticKind::block_smooth), 0)), 0.1);
  EXPECT_GE(relative_delta(synthetic_head(spec_of(SyntheticKind::iid), 0)), 0.4);
}

// Given: peaked. Claim: nineteen of twenty rows put nine tenths of their attention on one key; iid rows do not.
TEST(Synthetic, PeakedRowsLookAtOneKey) {
  const auto peaked_share = [](SyntheticKind kind) {
    const Problem head = synthetic_head(spec_of(kind), 0);
    const Matrix probs = softmax(head.q * head.k.transpose() * head.scale);
    return (probs.rowwise().maxCoeff().array() > 0.9).cast<double>().mean();
  };
  EXPECT_GE(peaked_share(SyntheticKind::peaked), 0.95);
  EXPECT_EQ(peaked_share(SyntheticKind::iid), 0.0);
}

// Given: constant. Claim: all logits are equal, so are all rows of V, and pooling is exact.
TEST(Synthetic, ConstantIsConstant) {
  const Problem head = synthetic_head(spec_of(SyntheticKind::constant), 0);
  for (const Matrix* m : {&head.q, &head.k, &head.v}) {
    EXPECT_EQ((m->rowwise() - m->row(0)).cwiseAbs().maxCoeff(), 0.0);
    EXPECT_GT(m->cwiseAbs().maxCoeff(), 0.0);
  }
}

// Given: adversarial. Claim: every logit is so negative that one zero key would outweigh all real keys together.
TEST(Synthetic, AdversarialLogitsAreStronglyNegative) {
  const Problem head = synthetic_head(spec_of(SyntheticKind::adversarial), 0);
  const Matrix logits = head.q * head.k.transpose() * head.scale;
  EXPECT_LT(logits.maxCoeff(), -2.0 * std::sqrt(64.0));
  EXPECT_LT(logits.array().exp().rowwise().sum().maxCoeff(), 0.01);
}

// Given: empty-rows on grids that regions divide and do not. Claim: at 90% the head's threshold on A_draft leaves at
// least half of the block rows with nothing; one threshold a row leaves none.
TEST(Synthetic, EmptyRowsKeepNothing) {
  for (const Grid grid : {Grid{4, 16, 32, 8}, Grid{3, 20, 40, 0}, Grid{8, 32, 48, 16}}) {
    SyntheticSpec spec = spec_of(SyntheticKind::empty_rows);
    spec.grid = grid;
    for (Index head = 0; head < spec.heads; ++head) {
      const DraftMap map = draft_scores(synthetic_head(spec, head), Partition(grid, RegionSize{}), Pool::average);
      for (const Rule rule : {Rule::softmax, Rule::released}) {
        const BlockMask mask = select(map, rule, 0.9);
        EXPECT_GE(2 * mask.empty_rows(), mask.regions()) << to_string(grid) << " head " << head;
      }
      EXPECT_EQ(select(map, Rule::row, 0.9).empty_rows(), 0);
    }
  }
}

TEST(Synthetic, UnknownKindIsRefusedWithTheList) {
  try {
    parse_synthetic_kind("smooth");
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(),
                 "kind: wanted one of block-smooth, iid, peaked, constant, adversarial, empty-rows, found 'smooth'");
  }
}

}  // namespace
}  // namespace draft
