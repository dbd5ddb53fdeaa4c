// A head study on the GPU against the same study on the CPU: every metric.
#include "experiments/study/gpu/sweeps.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "experiments/study/head.hpp"
#include "experiments/study/metrics.hpp"
#include "experiments/study/test_cells.hpp"
#include "harness/gpu.hpp"
#include "harness/numbers/half_tensor.hpp"
#include "harness/options.hpp"
#include "harness/record/metric_table.hpp"
#include "reference/attention.hpp"
#include "reference/naive.hpp"

namespace draft {
namespace {

class GpuSweepsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_no_gpu(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

Problem ragged_head(Element element, Index head_dim, Index text) {
  Problem problem = naive::random_problem({2, 9, 20, text}, head_dim, 0.7, 17);
  problem.v.array() += 1.0;  // outputs as large as values: else their rounding would be large beside them
  for (Matrix* rows : {&problem.q, &problem.k, &problem.v}) round_to(*rows, element);
  return problem;
}

/// The study on the GPU of a head whose numbers the element type has.
HeadStudy study_on_gpu(const Problem& problem, Element element, const std::vector<Cell>& cells, Sweeps& sweeps,
                       const Progress& progress = {}) {
  const HalfHead half = to_half(problem, element);
  return HeadStudy(problem, cells, {.progress = progress, .sweeps = &sweeps, .half = &half});
}

/// The least mu_u that is not 0.
double least_dropped(const Problem& problem, RegionSize region, const BlockMask& mask) {
  const Partition partition(problem.grid, region);
  const Matrix p = naive::probabilities(problem, Matrix::Ones(problem.grid.tokens(), problem.grid.tokens()));
  const Vector dropped =
      p.cwiseProduct(Matrix::Ones(p.rows(), p.cols()) - naive::allowed(partition, mask)).rowwise().sum();
  double least = 1.0;
  for (const double mu : dropped) least = mu > 0.0 ? std::min(least, mu) : least;
  return least;
}

/// How far a metric may be from the reference's. w is the relative error of weights and of their sums, l that of a
/// logit, o that of a row of an output (absolute).
class Allowed {
 public:
  Allowed(const Problem& problem, HeadStudy& study, const Cell& cell, const BlockMask& mask, const Metrics& wanted)
      : wanted_(wanted) {
    const Slack slack = single_precision_slack(problem);
    const double n = static_cast<double>(problem.grid.video()), longest = longest_row(problem.v);
    const Matrix dense = attend_dense(problem).o.topRows(problem.grid.video());
    weight_ = slack.against_exact;
    logit_ = slack.logit;
    n_ = n;
    scale_ = problem.scale;
    output_ = (slack.output.noise + 4.0 * weight_) * longest;
    l2_ = std::sqrt(n) * output_ / dense.norm();
    l1_ = n * std::sqrt(static_cast<double>(problem.head_dim())) * output_ / dense.lpNorm<1>();
    peak_ = output_ / dense.cwiseAbs().maxCoeff();
    identity_ = slack.identity;
    ratio_ = (output_ / longest + slack.output.ignored) / (2.0 * least_dropped(problem, cell.region, mask)) + weight_;
    if (cell.policy != Policy::draft) return;
    const LogitStats& stats = study.stats(cell.region);
    const Matrix& centres = study.map(cell.region, cell.pool).logits;
    const Matrix deltas = (stats.maximum - centres).cwiseMax(centres - stats.minimum);
    near_half_ = static_cast<double>(((deltas.array() - 0.5 * deltas.maxCoeff()).abs() <= 2.0 * logit_).count()) /
                 static_cast<double>(deltas.size());
  }

  [[nodiscard]] double of(const std::string& name) const {
    const double wanted = std::abs(metric(wanted_, name));
    const auto is = [&](std::initializer_list<const char*> names) {
      return std::any_of(names.begin(), names.end(), [&](const char* other) { return name == other; });
    };
    if (is({"attention_recall", "attention_recall_p05", "attention_recall_min", "max_dropped_mass", "mean_dropped_mass",
            "step_1_bound", "bound_sharp_mu"})) {
      return 2.0 * weight_ * wanted;
    }
    if (name == "probs_frobenius") return 3.0 * weight_ * wanted;  // the root of products of up to four weights
    if (name == "output_rel_l2") return 2.0 * l2_ * (1.0 + wanted);
    if (name == "output_rel_l1") return 2.0 * l1_ * (1.0 + wanted);
    if (name == "output_cosine") return 4.0 * l2_ * (1.0 + metric(wanted_, "output_rel_l2"));
    if (name == "output_psnr") {  // decibels: 20 / ln 10 times relative errors
      const double rel = metric(wanted_, "output_rel_l2");
      return 20.0 / std::log(10.0) * 2.0 * (2.0 * l2_ * (1.0 + rel) / rel + peak_);
    }
    if (name == "output_error_max") return output_;
    if (name == "output_bound_max_ratio") return ratio_;
    if (name == "step_1_row_l1_max") return 1e-11;  // fp64 on both sides, as head_study_test's tolerance
    if (name == "step_1_residual") return identity_;
    if (name == "delta_logits" || name == "logits_rms_deviation") return 2.0 * logit_;
    if (name == "delta_scaled") return scale_ * 2.0 * logit_;
    if (is({"delta_p50", "delta_p90", "delta_p99", "delta_p999"}))
      return (wanted + 2.0 * logit_) / 256.0 + 2.0 * logit_;
    if (name == "logits_frobenius" || name == "bound_3_3") return 2.0 * n_ * logit_;
    if (name == "tightness_3_3") {
      return wanted * 4.0 * n_ * logit_ *
             (1.0 / metric(wanted_, "logits_frobenius") + 1.0 / metric(wanted_, "bound_3_3"));
    }
    if (name == "radii_tightness") return 2.0 * wanted * logit_ / metric(wanted_, "delta_logits");
    if (name == "delta_half_block_share") return near_half_;
    if (name == "bound_3_5_paper_delta") return 4.0 * logit_ * wanted;  // e^(-2 delta)
    if (is({"bound_3_5", "vacuity_3_5", "bound_sharp", "bound_blocks"})) return 4.0 * scale_ * logit_ * wanted;
    if (name == "tightness_3_5" || name == "step_2_max_ratio") return (4.0 * scale_ * logit_ + 3.0 * weight_) * wanted;
    return 0.0;  // counts, flags and what comes from Q and K alone
  }

 private:
  const Metrics& wanted_;
  double weight_, logit_, n_, scale_, output_, l2_, l1_, peak_, identity_, ratio_, near_half_ = 0.0;
};

// Given a ragged grid with and without text, both elements, several region sizes, poolings, rules and policies at once,
// claim: every metric is the CPU's within rounding, every check holds, and progress adds up.
TEST_F(GpuSweepsTest, EveryMetricIsTheReferences) {
  const std::unique_ptr<Sweeps> sweeps = make_sweeps("cuda");
  const std::vector<Cell> cells = all_cells({{4, 8}, {8, 16}, {3, 7}});
  for (const auto& [element, head_dim, text] :
       {std::tuple{Element::bfloat16, 64, 70}, std::tuple{Element::float16, 128, 0}}) {
    const Problem problem = ragged_head(element, head_dim, text);
    Index progress = 0;
    HeadStudy cpu(problem, cells, {});
    HeadStudy gpu = study_on_gpu(problem, element, cells, *sweeps, [&](Index rows) { progress += rows; });
    EXPECT_EQ(progress, 2 * problem.grid.video());
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const Metrics wanted = cpu.metrics(i), found = gpu.metrics(i);
      EXPECT_TRUE(all_checks_hold(found));
      if (!(gpu.mask(i) == cpu.mask(i))) {  // the oracle may order blocks of equal mass in its own way
        ASSERT_EQ(cells[i].policy, Policy::oracle);
        EXPECT_LE(std::abs(metric(found, "attention_recall") - metric(wanted, "attention_recall")),
                  2.0 * single_precision_slack(problem).against_exact);
        continue;
      }
      ASSERT_EQ(found.size(), wanted.size());
      const Allowed allowed(problem, cpu, cells[i], cpu.mask(i), wanted);
      for (std::size_t m = 0; m < wanted.size(); ++m) {
        ASSERT_EQ(found[m].first, wanted[m].first);
        ASSERT_EQ(found[m].second.applicable(), wanted[m].second.applicable()) << wanted[m].first;
        if (!wanted[m].second.applicable()) continue;
        EXPECT_LE(std::abs(found[m].second.number() - wanted[m].second.number()), allowed.of(wanted[m].first))
            << wanted[m].first << " = " << wanted[m].second.number() << ", region " << to_string(cells[i].region)
            << ", sparsity " << cells[i].sparsity << ", " << to_string(cells[i].policy) << ", head_dim " << head_dim;
      }
    }
  }
}

// Negative control: a study of other numbers is not within the tolerances.
TEST_F(GpuSweepsTest, TheComparisonCanFail) {
  const std::unique_ptr<Sweeps> sweeps = make_sweeps("cuda");
  const std::vector<Cell> cells{{{Policy::draft, Pool::average, Rule::row, {4, 8}, 0.5}, true}};
  const Problem problem = ragged_head(Element::bfloat16, 64, 4);
  Problem other = problem;
  other.k.topRows(60) *= 4.0;
  HeadStudy cpu(problem, cells, {}), gpu = study_on_gpu(other, Element::bfloat16, cells, *sweeps);
  const Metrics wanted = cpu.metrics(0), found = gpu.metrics(0);
  const Allowed allowed(problem, cpu, cells[0], cpu.mask(0), wanted);
  for (const char* name : {"attention_recall", "logits_frobenius", "output_rel_l2", "probs_frobenius"}) {
    EXPECT_GT(std::abs(metric(found, name) - metric(wanted, name)), allowed.of(name)) << name;
  }
}

Json json_of(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) json[name] = to_json(value);
  return json;
}

bool has_number(const Metrics& metrics, const std::string& name) { return std::isfinite(metric(metrics, name)); }

Problem one_block_holds_all(double logit) {
  Problem problem = naive::one_block_holds_all({4, 4, 4, 0}, 64, logit);
  round_to(problem.v, Element::bfloat16);
  return problem;
}

// Given logits of 0 and, in one region of four, of X up to 1e5, claim: every metric is finite, possible or not
// applicable, every check holds, and masses and errors are the reference's: relative to weights' rounding, and beside
// what of a row's largest weight vanishes in fp32.
TEST_F(GpuSweepsTest, OneBlockHoldsAllTheMass) {
  const std::unique_ptr<Sweeps> sweeps = make_sweeps("cuda");
  std::vector<Cell> cells;
  for (const Rule rule : {Rule::logits, Rule::softmax, Rule::released, Rule::row}) {
    for (const double sparsity : {0.3, 0.5, 0.9})
      cells.push_back({{Policy::draft, Pool::average, rule, {4, 4}, sparsity}, true});
  }
  for (const double sparsity : {0.3, 0.5, 0.9}) cells.push_back({{Policy::random, {}, {}, {4, 4}, sparsity}, true});
  Index compared = 0;
  constexpr double kVanished = 1e-15;  // of a square root: weights below 2^-126 and their squares' roots
  for (const double logit : {0.0, 1.0, 40.0, 200.0, 354.0, 700.0, 1024.0, 32768.0, 98304.0}) {
    SCOPED_TRACE(logit);
    const Problem problem = one_block_holds_all(logit);
    HeadStudy cpu(problem, cells, {}), gpu = study_on_gpu(problem, Element::bfloat16, cells, *sweeps);
    const double weight = single_precision_slack(problem).relative;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      ASSERT_EQ(gpu.mask(i), cpu.mask(i));
      const Metrics wanted = cpu.metrics(i), found = gpu.metrics(i);
      EXPECT_EQ(metrics_failure(json_of(found), "cuda"), "");
      EXPECT_TRUE(all_checks_hold(found));
      for (const char* name : {"attention_recall", "attention_recall_min", "max_dropped_mass", "probs_frobenius",
                               "bound_sharp_mu", "step_1_bound", "step_1_row_l1_max", "step_1_rows_checked",
                               "bound_3_5", "delta_logits", "logits_frobenius", "tightness_3_5"}) {
        // Chance's masks have no bounds, and Theorem 3.5 none for masks that do not threshold the map.
        ASSERT_EQ(has_number(found, name), has_number(wanted, name)) << name;
        if (!has_number(wanted, name)) continue;
        const double value = metric(wanted, name);
        EXPECT_LE(std::abs(metric(found, name) - value), 4.0 * weight * std::abs(value) + 64.0 * kVanished) << name;
        ++compared;
      }
      for (const char* name : {"output_rel_l2", "output_rel_l1"}) {
        const double rounding = single_precision_slack(problem).output.noise + 8.0 * weight;
        EXPECT_LE(std::abs(metric(found, name) - metric(wanted, name)), 32.0 * rounding * (1.0 + metric(wanted, name)))
            << name;
      }
    }
  }
  EXPECT_GE(compared, 9 * (12 * 10 + 3 * 8));  // of each head and mask all but what the last names are about
}

// Given zeros, and heads in other units, claim: as on the CPU nothing is infinite, nothing fails, and a head's unit
// shows in the metrics that have one alone.
TEST_F(GpuSweepsTest, ZerosAndOtherUnits) {
  const std::unique_ptr<Sweeps> sweeps = make_sweeps("cuda");
  const std::vector<Cell> cells = all_cells({{4, 8}, {8, 16}, {3, 7}});
  const Problem plain = ragged_head(Element::bfloat16, 64, 5);
  for (const std::string zeros : {"q", "k", "v", "qkv"}) {
    Problem problem = plain;
    if (zeros.find('q') != std::string::npos) problem.q.setZero();
    if (zeros.find('k') != std::string::npos) problem.k.setZero();
    if (zeros.find('v') != std::string::npos) problem.v.setZero();
    HeadStudy study = study_on_gpu(problem, Element::bfloat16, cells, *sweeps);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      EXPECT_EQ(metrics_failure(json_of(study.metrics(i)), "cuda"), "") << zeros;
      EXPECT_TRUE(all_checks_hold(study.metrics(i))) << zeros;
      if (problem.v.isZero(0.0)) {
        EXPECT_TRUE(is_not_applicable(json_of(study.metrics(i)).at("output_rel_l2")));
      }
    }
  }
  Problem other = plain;  // bfloat16 has them all
  other.q *= std::ldexp(1.0, 90);
  other.k *= std::ldexp(1.0, -80);
  other.v *= std::ldexp(1.0, 100);
  other.scale = std::ldexp(plain.scale, -10);
  HeadStudy study = study_on_gpu(plain, Element::bfloat16, cells, *sweeps),
            same = study_on_gpu(other, Element::bfloat16, cells, *sweeps);
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const Metrics wanted = study.metrics(i), found = same.metrics(i);
    for (const char* name : {"attention_recall", "probs_frobenius", "output_rel_l2", "output_psnr"}) {
      EXPECT_NEAR(metric(found, name), metric(wanted, name), 1e-12 * std::abs(metric(wanted, name))) << name;
    }
    EXPECT_NEAR(metric(found, "output_error_max") / std::ldexp(metric(wanted, "output_error_max"), 100), 1.0, 1e-12);
  }
}

std::vector<Cell> cells_with_remainder(RegionSize region, const std::vector<double>& sparsities) {
  std::vector<Cell> cells;
  for (const double sparsity : sparsities) {
    for (const Rule rule : {Rule::softmax, Rule::row}) {
      cells.push_back({{Policy::draft, Pool::average, rule, region, sparsity}, false});
    }
    cells.push_back({{Policy::oracle, {}, {}, region, sparsity}, false});
    cells.push_back({{Policy::random, {}, {}, region, sparsity}, false});
  }
  for (Cell& cell : cells) cell.remainder = Remainder::pooled;
  return cells;
}

/// The largest |found - wanted| over what rounding may do to a mask's metrics with a remainder, per metric.
void expect_close_with_remainder(const Problem& problem, const Metrics& wanted, const Metrics& found) {
  const Slack slack = single_precision_slack(problem);
  const double weight = slack.against_exact, n = static_cast<double>(problem.grid.video());
  // A row's sum of (P - P')^2 is a sum of products of two weights, of which four at most are as large as the square of
  // the mass that is dropped: dropped, pooled, and twice their product. Each weight is off by `weight` of itself.
  const double square = n * 4.0 * 3.0 * weight * std::pow(metric(wanted, "max_dropped_mass"), 2);
  const double probs = metric(wanted, "probs_frobenius");
  EXPECT_LE(std::abs(metric(found, "probs_frobenius") - probs), std::min(square / probs, std::sqrt(square)));
  const double output = 2.0 * (slack.output.noise + 8.0 * weight) * longest_row(problem.v) * std::sqrt(n) /
                        attend_dense(problem).o.topRows(problem.grid.video()).norm();
  const double rel = metric(wanted, "output_rel_l2");
  EXPECT_LE(std::abs(metric(found, "output_rel_l2") - rel), output * (1.0 + rel));
  EXPECT_LE(std::abs(metric(found, "output_cosine") - metric(wanted, "output_cosine")), 2.0 * output * (1.0 + rel));
  EXPECT_LE(
      std::abs(metric(found, "output_rel_l1") - metric(wanted, "output_rel_l1")),
      4.0 * std::sqrt(static_cast<double>(problem.head_dim())) * output * (1.0 + metric(wanted, "output_rel_l1")));
  for (const char* name : {"attention_recall", "mean_dropped_mass"}) {
    EXPECT_LE(std::abs(metric(found, name) - metric(wanted, name)), 2.0 * weight * metric(wanted, name)) << name;
  }
  EXPECT_EQ(metric(found, "remainder_flops_share"), metric(wanted, "remainder_flops_share"));
}

// Given ragged grids with and without text, both elements, claim: metrics with a pooled remainder are the CPU's within
// rounding, in the same order, and are not those of the same masks without it.
TEST_F(GpuSweepsTest, APooledRemainderIsTheReferences) {
  const std::unique_ptr<Sweeps> sweeps = make_sweeps("cuda");
  for (const auto& [element, head_dim, text] :
       {std::tuple{Element::bfloat16, 64, 70}, std::tuple{Element::float16, 128, 0}}) {
    const Problem problem = ragged_head(element, head_dim, text);
    for (const RegionSize region : {RegionSize{4, 8}, RegionSize{3, 7}}) {
      std::vector<Cell> cells = cells_with_remainder(region, {0.0, 0.5, 0.9});
      const std::size_t pooled = cells.size();
      for (std::size_t i = 0; i < pooled; ++i) {
        cells.push_back(cells[i]);
        cells.back().remainder = Remainder::none;
      }
      HeadStudy cpu(problem, cells, {}), gpu = study_on_gpu(problem, element, cells, *sweeps);
      for (std::size_t i = 0; i < pooled; ++i) {
        SCOPED_TRACE(to_string(cells[i].policy) + ", sparsity " + std::to_string(cells[i].sparsity));
        if (!(gpu.mask(i) == cpu.mask(i))) continue;  // the oracle may order blocks of equal mass in its own way
        const Metrics wanted = cpu.metrics(i), found = gpu.metrics(i), plain = gpu.metrics(pooled + i);
        ASSERT_EQ(found.size(), wanted.size());
        for (std::size_t m = 0; m < wanted.size(); ++m) ASSERT_EQ(found[m].first, wanted[m].first);
        if (cells[i].sparsity == 0.0) {
          EXPECT_EQ(metric(found, "output_rel_l2"), 0.0);
          continue;
        }
        expect_close_with_remainder(problem, wanted, found);
        EXPECT_NE(metric(found, "output_rel_l2"), metric(plain, "output_rel_l2"));
        EXPECT_EQ(metric(found, "attention_recall"), metric(plain, "attention_recall"));
      }
    }
  }
}

// Given heads whose dropped blocks hold from nothing to all of the mass, up to where fp64 has no number for what is
// kept, claim: the same.
TEST_F(GpuSweepsTest, APooledRemainderOfAWideRange) {
  const std::unique_ptr<Sweeps> sweeps = make_sweeps("cuda");
  const std::vector<Cell> cells = cells_with_remainder({4, 4}, {0.3, 0.5, 0.9});
  for (const double logit : {0.0, 1.0, 40.0, 354.0, 1024.0, 32768.0}) {
    SCOPED_TRACE(logit);
    const Problem problem = one_block_holds_all(logit);
    HeadStudy cpu(problem, cells, {}), gpu = study_on_gpu(problem, Element::bfloat16, cells, *sweeps);
    for (std::size_t i = 0; i < cells.size(); ++i) {
      EXPECT_EQ(metrics_failure(json_of(gpu.metrics(i)), "cuda"), "");
      if (!(gpu.mask(i) == cpu.mask(i))) continue;
      const Metrics wanted = cpu.metrics(i), found = gpu.metrics(i);
      const double rounding =
          single_precision_slack(problem).output.noise + 8.0 * single_precision_slack(problem).relative;
      EXPECT_LE(std::abs(metric(found, "output_rel_l2") - metric(wanted, "output_rel_l2")),
                32.0 * rounding * (1.0 + metric(wanted, "output_rel_l2")));
    }
  }
}

TEST_F(GpuSweepsTest, RefuseWhatTheyCannotTake) {
  const std::unique_ptr<Sweeps> sweeps = make_sweeps("cuda");
  const std::vector<Cell> cells{{{Policy::random, {}, {}, {4, 8}, 0.5}, false}};
  const auto refused = [&](const Problem& problem, RegionSize region = {4, 8}) {
    std::vector<Cell> own = cells;
    own[0].region = region;
    EXPECT_THROW(study_on_gpu(problem, Element::bfloat16, own, *sweeps), UsageError);
  };
  refused(ragged_head(Element::bfloat16, 48, 0));
  refused(one_block_holds_all(1048576.0), {4, 4});  // fp32 has no digits for such logits
  EXPECT_THROW(HeadStudy(ragged_head(Element::bfloat16, 64, 0), cells, {.sweeps = sweeps.get()}),
               UsageError);  // no bits
}

}  // namespace
}  // namespace draft
