// The pooled remainder in the second sweep against its definition, and its bounds against what they bound, with n x n
// matrices.

#include <gtest/gtest.h>

#include "reference/attention.hpp"
#include "reference/bounds/mask_sweep.hpp"
#include "reference/bounds/sweep_cases.hpp"

namespace draft {
namespace {

using Case = naive::SweepCase;

constexpr double kTolerance = naive::kSweepTolerance;

/// A head, its masks with a remainder, and the sweep over them.
struct Swept : naive::PartitionedHead {
  explicit Swept(const Case& c) : Swept(naive::random_problem(c.grid, 8, c.spread, 31), c.regions) {}
  Swept(Problem head, const std::vector<RegionSize>& regions) : PartitionedHead(std::move(head), regions) {
    for (const Partition& partition : partitions) coarse.push_back(coarse_regions(problem, partition));
    for (std::size_t p = 0; p < partitions.size(); ++p) {
      const DraftMap map = draft_scores(problem, partitions[p], Pool::average);
      const Index blocks = partitions[p].regions() * partitions[p].regions();
      add(p, rank_by_rule(map, Rule::logits), {0, 1, (blocks + 3) / 4, blocks});
    }
  }
  void add(std::size_t partition, Ranking ranking, std::vector<Index> cuts) {
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    families.push_back({partition, std::move(ranking), std::move(cuts), &coarse[partition]});
  }
  [[nodiscard]] MaskSweep sweep(int threads = 2) const {
    const Stripes stripes(problem, atoms[0]);
    return sweep_masks(stripes, sweep_logits(stripes, {}, threads).lse, families, parent, threads);
  }
  [[nodiscard]] BlockMask mask(std::size_t f, std::size_t m) const {
    return BlockMask(families[f].ranking, families[f].cuts[m]);
  }

  std::vector<CoarseRegions> coarse;
  std::vector<MaskFamily> families;
};

/// b_u by its definition; `rise(u, j)` in the place of e_j.
template <typename Rise>
Vector bound_of(const Swept& s, const Partition& partition, const BlockMask& mask, const Matrix& p, Rise&& rise) {
  const std::vector<Index> region = partition.region_of_token();
  Vector bound = Vector::Zero(s.problem.grid.video());
  for (Index u = 0; u < bound.size(); ++u) {
    for (Index v = 0; v < bound.size(); ++v) {
      if (!mask.kept(region[u], region[v])) bound[u] += p(u, v) * (1.0 - std::exp(-rise(u, region[v])));
    }
  }
  return bound;
}

class RemainderSweeps : public testing::TestWithParam<Case> {};

// Claim: errors, outputs and bounds of every row are those of attention with replaced logits; each bound holds.
TEST_P(RemainderSweeps, AreTheDefinitions) {
  const Swept s(GetParam());
  const Index video = s.problem.grid.video();
  const Matrix logits = s.problem.scale * (s.problem.q * s.problem.k.transpose());
  const Matrix p = softmax_rows(logits), dense = p * s.problem.v;
  const double longest = s.problem.v.rowwise().norm().maxCoeff();
  const MaskSweep sweep = s.sweep();
  for (std::size_t f = 0; f < s.families.size(); ++f) {
    const Partition& partition = s.partitions[s.families[f].partition];
    const Vector& radii = s.coarse[s.families[f].partition].radii;
    const std::vector<Index> region = partition.region_of_token();
    for (std::size_t m = 0; m < s.families[f].cuts.size(); ++m) {
      const BlockMask mask = s.mask(f, m);
      const MaskEffect& effect = sweep.effects[f][m];
      const Matrix pp = softmax_rows(naive::remainder_logits(s.problem, partition, mask));
      const Matrix all_means = naive::remainder_logits(s.problem, partition, BlockMask(partition.regions(), false));
      const auto rise = [&](Index u, Index j) {
        double most = 0.0;
        for (Index v = 0; v < video; ++v) {
          if (region[v] == j) most = std::max(most, logits(u, v) - all_means(u, v));
        }
        return most;
      };
      const auto reach = [&](Index u, Index j) { return s.problem.scale * s.problem.q.row(u).norm() * radii[j]; };
      const Vector bound = bound_of(s, partition, mask, p, rise), certified = bound_of(s, partition, mask, p, reach);
      const Matrix sparse = pp * s.problem.v;
      Matrix apart = (dense - sparse).topRows(video);
      for (Index row = 0; row < video; ++row) {
        const Index u = s.atoms[0].order()[row];
        EXPECT_CLOSE(effect.probs_error[row], (p.row(u) - pp.row(u)).norm());
        EXPECT_CLOSE(effect.output_error[row], (dense.row(u) - sparse.row(u)).norm());
        EXPECT_CLOSE(effect.remainder->bound[row], bound[u]);
        EXPECT_CLOSE(effect.remainder->bound_radii[row], certified[u]);
        double least = p.row(u).tail(s.problem.grid.text).sum(), most = 0.0;
        const double lse = std::log(logits.row(u).array().exp().sum());
        for (Index v = 0; v < video; ++v) {
          const double weight = std::exp(all_means(u, v) - lse);
          (mask.kept(region[u], region[v]) ? least : most) +=
              mask.kept(region[u], region[v]) ? weight : weight * std::cosh(reach(u, region[v]));
        }
        EXPECT_CLOSE(effect.remainder->recall_bound[row], least == 0.0 ? 0.0 : least / (least + most));
        // The gap's bound is known to the root of its rounding.
        const double divergence = (pp.row(u).array() * (pp.row(u).array() / p.row(u).array()).log()).sum();
        const double gap = std::sqrt(std::min(0.5 * divergence, 1.0 - std::exp(-divergence)));
        EXPECT_LE(std::abs(std::pow(effect.remainder->bound_gap[row], 2) - std::pow(std::max(gap, 0.0), 2)),
                  kTolerance);
        // The bounds themselves.
        const double slack = 1.0 + kTolerance;
        EXPECT_LE((p.row(u) - pp.row(u)).lpNorm<1>(), 2.0 * effect.remainder->bound_gap[row] + std::sqrt(kTolerance));
        EXPECT_LE((p.row(u) - pp.row(u)).lpNorm<1>(), 2.0 * bound[u] * slack + kTolerance);
        EXPECT_LE(effect.probs_error[row], std::sqrt(2.0) * bound[u] * slack + kTolerance);
        EXPECT_LE(effect.output_error[row], 2.0 * longest * bound[u] * slack + kTolerance);
        EXPECT_LE(effect.remainder->bound[row], effect.remainder->bound_radii[row] * slack + kTolerance);
        EXPECT_LE(effect.remainder->bound[row], effect.dropped[row] * slack);
        EXPECT_LE(effect.remainder->recall_bound[row], effect.kept[row] * slack);
      }
      EXPECT_CLOSE(effect.output_error1, apart.cwiseAbs().sum());
      EXPECT_CLOSE(effect.output_dot, dense.topRows(video).cwiseProduct(sparse.topRows(video)).sum());
      EXPECT_CLOSE(effect.output_norm, sparse.topRows(video).norm());
      EXPECT_LE(effect.remainder->row_l1_excess, kTolerance);
      EXPECT_EQ(effect.rows_checked, (video + 127) / 128);  // empty rows too
      const PooledRows rows = pooled_rows(s.problem, partition);
      EXPECT_LE((attend(s.problem, partition, mask, &rows).o - sparse).cwiseAbs().maxCoeff(), kTolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grids, RemainderSweeps,
                         testing::Values(Case{{1, 1, 1, 0}, {{8, 16}}, 1.0}, Case{{2, 6, 10, 0}, {{4, 4}}, 1.0},
                                         Case{{2, 9, 11, 5}, {{4, 4}, {3, 5}, {8, 16}}, 1.0},
                                         Case{{1, 16, 20, 9}, {{8, 16}, {4, 8}}, 2.0}));

// Given a family without a remainder beside one with it, claim: neither changes a bit of the other.
TEST(RemainderSweep, LeavesMasksWithoutItAlone) {
  Swept s(Case{{2, 9, 11, 5}, {{4, 4}, {3, 5}}, 1.0});
  const MaskSweep with = s.sweep();
  Swept plain = s;
  for (MaskFamily& family : plain.families) family.remainder = nullptr;
  const MaskSweep without = plain.sweep();
  s.families[0].remainder = nullptr;
  const MaskSweep mixed = s.sweep(1);
  EXPECT_EQ(mixed.effects[0][1].output_error, without.effects[0][1].output_error);
  EXPECT_EQ(mixed.effects[0][1].probs_error, without.effects[0][1].probs_error);
  EXPECT_EQ(mixed.effects[1][1].output_error, with.effects[1][1].output_error);
  EXPECT_FALSE(mixed.effects[0][1].remainder.has_value());
  EXPECT_EQ(mixed.dense.norm, without.dense.norm);
}

/// One block row that drops the first region, whose logits lie `above` those of the second, 0; within a region they
/// differ by as much as random keys make them.
Swept two_regions(double above) {
  const Grid grid{2, 2, 4, 0};
  Problem problem = naive::random_problem(grid, 8, 0.5, 5);
  problem.scale = 1.0;
  problem.q.col(0).setConstant(1.0);
  problem.k.col(0).head(8).setConstant(above);
  problem.k.col(0).tail(8).setConstant(0.0);
  Swept s(std::move(problem), {RegionSize{2, 4}});
  s.families.clear();
  s.add(0, {2, false, {3, 0, 1, 2}}, {3});  // all but block (0, 0)
  return s;
}

// Given a row whose dropped mass is far below rounding, claim: its errors are right relative to that mass, and so are
// its bounds.
TEST(RemainderSweep, MassesThatVanishKeepTheirDigits) {
  for (const double above : {-40.0, -300.0, -650.0}) {
    const Swept s = two_regions(above);
    const MaskEffect effect = s.sweep().effects[0][0];
    const Matrix logits = s.problem.q * s.problem.k.transpose();
    for (Index u = 0; u < 8; ++u) {
      // To a relative error of mu, W is 1 and P' in the dropped region e^(mean) over the sum of the second region.
      const double highest = logits.row(u).tail(8).maxCoeff();
      const double total = (logits.row(u).tail(8).array() - highest).exp().sum();
      const Eigen::ArrayXd lost = (logits.row(u).head(8).array() - highest - above).exp() / total;
      const double even = std::exp((logits.row(u).head(8).array() - highest - above).mean()) / total;
      const double unit = std::exp(above);
      const Eigen::RowVectorXd kept = (logits.row(u).tail(8).array() - highest).exp().matrix() / total;
      const double gap = (lost - even).sum();
      const Eigen::RowVectorXd error =
          (lost - even).matrix().transpose() * s.problem.v.topRows(8) - gap * kept * s.problem.v.bottomRows(8);
      const double probs = std::sqrt((lost - even).square().sum() + gap * gap * kept.squaredNorm());
      constexpr double kRelative = 1e-10;  // of logits near 650, whose rounding is 1e-13
      EXPECT_LE(std::abs(effect.dropped[u] / (unit * lost.sum()) - 1.0), kRelative);
      EXPECT_LE(std::abs(effect.probs_error[u] / (unit * probs) - 1.0), kRelative);
      EXPECT_LE(std::abs(effect.output_error[u] / (unit * error.norm()) - 1.0), kRelative);
      EXPECT_LE(effect.probs_error[u], std::sqrt(2.0) * effect.remainder->bound[u]);
    }
  }
}

// Given one key that holds all the mass in a dropped block whose mean lies 1000 below it, claim: the row's attention is
// still that over kept columns and the mean (P alone would be 0 / 0).
TEST(RemainderSweep, WeightsBelowTheSmallestDoubleAreStillASoftmax) {
  Swept s = two_regions(0.0);
  s.problem.k.col(0).head(8).setConstant(-2000.0);
  s.problem.k(3, 0) = 2000.0;
  s.problem.k.col(0).tail(8).setConstant(-1499.0);
  s.coarse[0] = coarse_regions(s.problem, s.partitions[0]);
  const MaskEffect effect = s.sweep().effects[0][0];
  const Matrix logits = s.problem.q * s.problem.k.transpose();
  const Matrix p = softmax_rows(logits);
  const Matrix pp = softmax_rows(naive::remainder_logits(s.problem, s.partitions[0], s.mask(0, 0)));
  for (Index u = 0; u < 8; ++u) {
    EXPECT_CLOSE(effect.probs_error[u], (p.row(u) - pp.row(u)).norm());
    EXPECT_CLOSE(effect.output_error[u], ((p.row(u) - pp.row(u)) * s.problem.v).norm());
    EXPECT_CLOSE(effect.remainder->bound[u], 1.0);
  }
}

// Given regions of equal keys, claim: the remainder is exact, and the bounds say so.
TEST(RemainderSweep, EqualKeysLoseNothing) {
  Swept s = two_regions(0.0);
  for (const Index first : {0, 8}) {
    s.problem.k.middleRows(first, 8).rowwise() = Eigen::RowVectorXd(s.problem.k.row(first));
  }
  s.coarse[0] = coarse_regions(s.problem, s.partitions[0]);
  const MaskEffect effect = s.sweep().effects[0][0];
  EXPECT_GT(effect.dropped.maxCoeff(), 0.1);
  EXPECT_LE(effect.output_error.maxCoeff(), 1e-14);
  EXPECT_LE(effect.remainder->bound.maxCoeff(), 1e-14);
  EXPECT_LE(effect.remainder->bound_radii.maxCoeff(), 1e-14);
  EXPECT_LE((effect.remainder->recall_bound - effect.kept).cwiseAbs().maxCoeff(), 1e-14);
}

// Negative control: the bound of a row is below what the mask alone loses, so that an attention that left the remainder
// out would be caught.
TEST(RemainderSweep, TheBoundIsBelowThePlainMasksError) {
  Swept s(Case{{2, 9, 11, 0}, {{4, 4}}, 0.2});
  const MaskSweep with = s.sweep();
  for (MaskFamily& family : s.families) family.remainder = nullptr;
  const MaskSweep without = s.sweep();
  const MaskEffect &pooled = with.effects[0][2], &plain = without.effects[0][2];
  EXPECT_GT(plain.probs_error.norm(), 1.01 * std::sqrt(2.0) * pooled.remainder->bound.norm());
}

TEST(RemainderSweep, ThreadsDoNotChangeABit) {
  const Swept s(Case{{3, 9, 11, 5}, {{4, 4}, {3, 5}}, 1.0});
  const MaskSweep one = s.sweep(1), three = s.sweep(3);
  EXPECT_EQ(one.effects[1][1].output_error, three.effects[1][1].output_error);
  EXPECT_EQ(one.effects[0][1].remainder->bound, three.effects[0][1].remainder->bound);
  EXPECT_EQ(one.effects[0][2].output_dot, three.effects[0][2].output_dot);
}

}  // namespace
}  // namespace draft
