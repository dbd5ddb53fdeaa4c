// Both sweeps against the definitions, computed with n x n matrices.
#include "reference/bounds/mask_sweep.hpp"

#include <gtest/gtest.h>

#include "reference/bounds/sweep_cases.hpp"

namespace draft {
namespace {

using Case = naive::SweepCase;
using Head = naive::PartitionedHead;

constexpr double kTolerance = naive::kSweepTolerance;
constexpr unsigned kSeed = 21;

class Sweeps : public testing::TestWithParam<Case> {};

TEST_P(Sweeps, LogitStatisticsAreTheDefinitions) {
  const Head s(GetParam(), kSeed);
  const Stripes stripes(s.problem, s.atoms[0]);
  const Matrix logits = s.problem.q * s.problem.k.transpose();
  const Matrix p = naive::probabilities(s.problem, naive::seen(s.problem.grid));
  std::vector<DeviationRequest> requests;
  for (std::size_t i = 0; i < s.partitions.size(); ++i) {
    requests.push_back({draft_scores(s.problem, s.partitions[i], Pool::maximum).logits, s.parent[i]});
  }
  const LogitStats fine = sweep_logits(stripes, requests, 2);
  for (std::size_t i = 0; i < s.partitions.size(); ++i) {
    const Partition& partition = s.partitions[i];
    const LogitStats stats = coarsened(fine, s.atoms[0], s.parent[i], partition.regions());
    const std::vector<Index> region = partition.region_of_token();
    std::vector<double> deviations;
    Matrix mass = Matrix::Zero(partition.regions(), partition.regions());
    for (Index u = 0; u < s.problem.grid.video(); ++u) {
      for (Index v = 0; v < s.problem.grid.video(); ++v) {
        mass(region[u], region[v]) += p(u, v);
        if (region[v] >= partition.free_columns(region[u])) continue;
        EXPECT_LE(stats.minimum(region[u], region[v]), logits(u, v) + kTolerance);
        EXPECT_GE(stats.maximum(region[u], region[v]), logits(u, v) - kTolerance);
        deviations.push_back(std::abs(logits(u, v) - requests[i].pooled_logits(region[u], region[v])));
      }
    }
    EXPECT_LE((mass - stats.mass).cwiseAbs().maxCoeff(), kTolerance);
    double square = 0.0;
    for (Index u = 0; u < s.problem.grid.video(); ++u) {
      for (Index v = 0; v < s.problem.grid.video(); ++v) {
        if (region[v] >= partition.free_columns(region[u])) continue;
        square += std::pow(logits(u, v) - stats.mean(region[u], region[v]), 2);
      }
    }
    double found = 0.0;
    for (Index row = 0; row < partition.regions(); ++row) {
      found += stats.centred_square.row(row).head(partition.free_columns(row)).sum();
    }
    EXPECT_CLOSE(found, square);
    std::sort(deviations.begin(), deviations.end());
    const double exact =
        deviations[static_cast<std::size_t>(std::ceil(0.9 * static_cast<double>(deviations.size()))) - 1];
    EXPECT_GE(fine.deviations[i].quantile(0.9), exact * (1.0 - kTolerance));
    EXPECT_LE(fine.deviations[i].quantile(0.9), exact * (1.0 + 1.0 / 256.0));
  }
}

TEST_P(Sweeps, MaskEffectsAreTheDefinitions) {
  const Head s(GetParam(), kSeed);
  const Stripes stripes(s.problem, s.atoms[0]);
  const Index video = s.problem.grid.video();
  const Matrix p = naive::probabilities(s.problem, naive::seen(stripes.grid));
  const Matrix dense = p * s.problem.v;
  std::vector<MaskFamily> families;
  for (std::size_t i = 0; i < s.partitions.size(); ++i) {
    const DraftMap map = draft_scores(s.problem, s.partitions[i], Pool::average);
    for (const Rule rule : {Rule::logits, Rule::row}) {
      families.push_back({i, rank_by_rule(map, rule), {}});
      for (const double sparsity : {0.95, 0.6, 0.0}) {
        const Index cut = rule_cut(map, rule, sparsity);
        if (families.back().cuts.empty() || families.back().cuts.back() < cut) families.back().cuts.push_back(cut);
      }
    }
  }
  const MaskSweep sweep = sweep_masks(stripes, sweep_logits(stripes, {}, 1).lse, families, s.parent, 2);
  const Matrix dense_video = dense.topRows(video);
  EXPECT_CLOSE(sweep.dense.norm * sweep.dense.norm, dense_video.squaredNorm());
  EXPECT_CLOSE(sweep.dense.absolute, dense_video.cwiseAbs().sum());
  EXPECT_CLOSE(sweep.dense.highest, dense_video.maxCoeff());
  for (std::size_t f = 0; f < families.size(); ++f) {
    for (std::size_t m = 0; m < families[f].cuts.size(); ++m) {
      const BlockMask mask(families[f].ranking, families[f].cuts[m]);
      const Matrix allowed = naive::allowed(s.partitions[f / 2], mask);
      const Matrix pm = naive::probabilities(s.problem, allowed);
      const Matrix sparse = (pm * s.problem.v).topRows(video);
      const MaskEffect& effect = sweep.effects[f][m];
      for (Index row = 0; row < video; ++row) {
        const Index u = s.atoms[0].order()[row];
        EXPECT_CLOSE(effect.dropped[row], (p.row(u).array() * (1.0 - allowed.row(u).array())).sum());
        EXPECT_CLOSE(effect.kept[row], (p.row(u).array() * allowed.row(u).array()).sum());
        EXPECT_CLOSE(std::pow(effect.probs_error[row], 2), (p.row(u) - pm.row(u)).squaredNorm());
        EXPECT_CLOSE(std::pow(effect.output_error[row], 2), (dense.row(u) - sparse.row(u)).squaredNorm());
      }
      EXPECT_CLOSE(effect.output_error1, (dense_video - sparse).cwiseAbs().sum());
      EXPECT_CLOSE(effect.output_dot, dense_video.cwiseProduct(sparse).sum());
      EXPECT_CLOSE(std::pow(effect.output_norm, 2), sparse.squaredNorm());
      EXPECT_LE(effect.row_l1_residual, kTolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Grids, Sweeps,
                         testing::Values(Case{{1, 1, 1, 0}, {{8, 16}}, 1.0}, Case{{2, 6, 10, 0}, {{4, 4}}, 1.0},
                                         Case{{2, 9, 11, 5}, {{4, 4}, {3, 5}, {8, 16}}, 1.0},
                                         Case{{1, 16, 32, 9}, {{8, 16}, {4, 8}}, 2.5},
                                         Case{{1, 1, 203, 0, true}, {{1, 16}, {1, 24}, {1, 64}}, 1.5},
                                         Case{{1, 1, 1100, 0, true}, {{1, 64}}, 2.5}));

// Given a head that keeps, in one block row, only keys whose logits lie 2000 below the best, claim: the
// masked softmax is still that of the kept keys (exp(S - lse) alone would be 0 / 0).
TEST(MaskSweep, KeptMassBelowTheSmallestDoubleIsStillASoftmax) {
  const Grid grid{2, 2, 4, 0};
  Problem problem = naive::random_problem(grid, 8, 1.0, 5);
  problem.scale = 1.0;
  problem.q.col(0).setConstant(1.0);
  problem.k.col(0).head(8).setConstant(2000.0);
  problem.k.col(0).tail(8).setConstant(0.0);
  const Partition partition(grid, RegionSize{2, 4});
  BlockMask mask(2, true);
  mask.set(0, 0, false);
  Ranking ranking{2, false, {3, 0, 1, 2}};  // cut 3 keeps all but block (0, 0)
  const Stripes stripes(problem, partition);
  const std::vector<MaskFamily> families{{0, ranking, {3}}};
  const std::vector<std::vector<Index>> same{parents(partition, partition)};
  const MaskSweep sweep = sweep_masks(stripes, sweep_logits(stripes, {}, 1).lse, families, same, 1);
  const Matrix p = naive::probabilities(problem, Matrix::Ones(16, 16));
  const Matrix pm = naive::probabilities(problem, naive::allowed(partition, mask));
  for (Index u = 0; u < 8; ++u) {
    EXPECT_CLOSE(std::pow(sweep.effects[0][0].probs_error[u], 2), (p.row(u) - pm.row(u)).squaredNorm());
    EXPECT_CLOSE(std::pow(sweep.effects[0][0].output_error[u], 2), ((p.row(u) - pm.row(u)) * problem.v).squaredNorm());
    // The error has two parts: all of P, and a softmax over 8 keys, whose squares sum to at least 1/8.
    EXPECT_GE(std::pow(sweep.effects[0][0].probs_error[u], 2), p.row(u).squaredNorm() + 0.125 - kTolerance);
  }
}

TEST(MaskSweep, ThreadsDoNotChangeABit) {
  const Head s(Case{{3, 9, 11, 5}, {{4, 4}, {3, 5}}, 1.0}, kSeed);
  const Stripes stripes(s.problem, s.atoms[0]);
  const std::vector<MaskFamily> families{{1, random_ranking(s.partitions[1].regions(), 1, 0), {5, 40}}};
  const auto run = [&](int threads) {
    return sweep_masks(stripes, sweep_logits(stripes, {}, threads).lse, families, s.parent, threads);
  };
  const MaskSweep one = run(1), three = run(3);
  EXPECT_EQ(one.effects[0][1].dropped, three.effects[0][1].dropped);
  EXPECT_EQ(one.effects[0][0].output_dot, three.effects[0][0].output_dot);
  EXPECT_EQ(one.dense.norm, three.dense.norm);
}

}  // namespace
}  // namespace draft
