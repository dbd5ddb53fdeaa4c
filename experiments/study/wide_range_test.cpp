// Heads whose numbers are as large, as small or as alike as they can be: every metric is finite and right, or said to
// be relative to nothing.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "experiments/study/head.hpp"
#include "experiments/study/maps.hpp"
#include "experiments/study/metrics.hpp"
#include "experiments/study/test_cells.hpp"
#include "harness/record/metric_table.hpp"
#include "reference/naive.hpp"

namespace draft {
namespace {

using Wide = long double;  // exponents down to e^-11000: nothing below underflows
constexpr RegionSize kRegion{2, 4};

Json json_of(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [name, value] : metrics) json[name] = to_json(value);
  return json;
}

/// One mask's metrics by their definitions, in long double, from given logits.
struct Definition {
  Wide recall = 0, recall_min = 2, max_dropped = 0, frobenius2 = 0, mu2 = 0;
  Wide error2 = 0, dense2 = 0, sparse2 = 0, dot = 0;

  Definition(const Problem& problem, const Partition& partition, const BlockMask& mask) {
    const std::vector<Index> region = partition.region_of_token();
    const Index video = problem.grid.video(), tokens = problem.grid.tokens(), dim = problem.v.cols();
    for (Index u = 0; u < video; ++u) {
      std::vector<Wide> logit(static_cast<std::size_t>(tokens));
      std::vector<bool> keeps(static_cast<std::size_t>(tokens));
      for (Index v = 0; v < tokens; ++v) {
        keeps[v] = v >= video || mask.kept(region[u], region[v]);
        for (Index d = 0; d < problem.q.cols(); ++d) {
          logit[v] += static_cast<Wide>(problem.q(u, d)) * static_cast<Wide>(problem.k(v, d));
        }
        logit[v] *= problem.scale;
      }
      const std::vector<Wide> p = softmax(logit, std::vector<bool>(keeps.size(), true)), pm = softmax(logit, keeps);
      Wide kept = 0, dropped = 0;
      for (Index v = 0; v < tokens; ++v) {
        (keeps[v] ? kept : dropped) += p[v];
        frobenius2 += (p[v] - pm[v]) * (p[v] - pm[v]);
      }
      recall += kept / static_cast<Wide>(video);
      recall_min = std::min(recall_min, kept);
      max_dropped = std::max(max_dropped, dropped);
      mu2 += dropped * dropped;
      for (Index d = 0; d < dim; ++d) {
        Wide full = 0, sparse = 0;
        for (Index v = 0; v < tokens; ++v) {
          full += p[v] * static_cast<Wide>(problem.v(v, d));
          sparse += pm[v] * static_cast<Wide>(problem.v(v, d));
        }
        error2 += (full - sparse) * (full - sparse);
        dense2 += full * full;
        sparse2 += sparse * sparse;
        dot += full * sparse;
      }
    }
  }

  static std::vector<Wide> softmax(const std::vector<Wide>& logit, const std::vector<bool>& keeps) {
    Wide highest = -std::numeric_limits<Wide>::infinity(), total = 0;
    for (std::size_t v = 0; v < logit.size(); ++v) highest = keeps[v] ? std::max(highest, logit[v]) : highest;
    std::vector<Wide> p(logit.size(), 0);
    for (std::size_t v = 0; v < logit.size(); ++v) {
      p[v] = keeps[v] ? std::exp(logit[v] - highest) : Wide(0);
      total += p[v];
    }
    for (Wide& one : p) one = total > 0 ? one / total : Wide(0);
    return p;
  }
};

/// A weight's rounding: that of its logit, turned into a relative one by exp, and the sums' own 1e-12.
double rounding_of(const Problem& problem) {
  const double longest = longest_row(problem.q) * longest_row(problem.k) * problem.scale;
  return 1e-12 + 8.0 * static_cast<double>(problem.head_dim()) * std::numeric_limits<double>::epsilon() * longest;
}

/// Relative, down to the smallest normal number.
void expect_close(const Metrics& metrics, const char* name, Wide wanted, double relative, double absolute = 0.0) {
  const double found = metric(metrics, name), value = static_cast<double>(wanted);
  const double smallest = 1e3 * std::numeric_limits<double>::min();
  EXPECT_LE(std::abs(found - value), relative * std::abs(value) + absolute + smallest)
      << name << ": wanted " << value << ", found " << found;
}

void expect_definitions(const Problem& problem, HeadStudy& study, const std::vector<Cell>& cells) {
  const Partition partition(problem.grid, kRegion);
  const double r = rounding_of(problem), n = static_cast<double>(problem.grid.video());
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const Metrics metrics = study.metrics(i);
    SCOPED_TRACE(to_string(cells[i].policy) + " " + to_string(cells[i].rule) + " " + std::to_string(cells[i].sparsity));
    EXPECT_EQ(metrics_failure(json_of(metrics), "cpu"), "");
    EXPECT_TRUE(all_checks_hold(metrics));
    const Definition wanted(problem, partition, study.mask(i));
    expect_close(metrics, "attention_recall", wanted.recall, 4.0 * r);
    expect_close(metrics, "attention_recall_min", wanted.recall_min, 4.0 * r);
    expect_close(metrics, "max_dropped_mass", wanted.max_dropped, 4.0 * r);
    expect_close(metrics, "probs_frobenius", std::sqrt(wanted.frobenius2), 8.0 * r);
    expect_close(metrics, "bound_sharp_mu", std::sqrt(2 * wanted.mu2), 4.0 * r);
    expect_close(metrics, "step_1_bound", 2 * std::sqrt(static_cast<Wide>(n)) * wanted.max_dropped, 4.0 * r);
    EXPECT_LE(metric(metrics, "step_1_residual"), 8.0 * r);
    if (wanted.dense2 == 0) {
      EXPECT_TRUE(std::isnan(metric(metrics, "output_rel_l2")));
      continue;
    }
    // Outputs are differences of numbers up to the longest value: absolute rounding, in units of the dense norm.
    const Wide dense = std::sqrt(wanted.dense2);
    const double output = 8.0 * r * std::sqrt(n) * longest_row(problem.v) / static_cast<double>(dense);
    expect_close(metrics, "output_rel_l2", std::sqrt(wanted.error2) / dense, 8.0 * r, output);
    if (wanted.sparse2 > 0) {
      expect_close(metrics, "output_cosine", wanted.dot / (dense * std::sqrt(wanted.sparse2)), 8.0 * r, 2.0 * output);
    }
  }
}

/// Four regions of 16, the first of which has the mass.
Problem one_block_holds_all(double logit) { return naive::one_block_holds_all({4, 4, 4, 0}, 2, logit); }

// Given X between 0 and 1e5 and a mask that keeps c of the three light regions in each row, with the heavy one or
// without it, claim the closed form. With e = exp(-X), Z = 16 + 48 e:
// with:    mu = 16 (3 - c) e / Z, ||P - P^M||^2 = 64 mu^2 (1 / (16 (3 - c)) + (1 + c e^2) / (16 (1 + c e)^2))
// without: mu = 16 (1 + (3 - c) e) / Z, ||.||^2 = 64 mu^2 ((1 + (3 - c) e^2) / (16 (1 + (3 - c) e)^2) + 1 / (16 c))
TEST(WideRange, OneBlockHoldsAllTheMass) {
  for (const double logit : {0.0, 1.0, 30.0, 300.0, 340.0, 354.0, 356.0, 360.0, 400.0, 600.0, 690.0, 700.0, 720.0,
                             745.0, 1000.0, 1e4, 1e5}) {
    const Problem problem = one_block_holds_all(logit);
    const RegionSize frame{4, 4};
    std::vector<Cell> cells{{{Policy::draft, Pool::average, Rule::row, frame, 0.7}, true},
                            {{Policy::draft, Pool::average, Rule::row, frame, 0.5}, true},
                            {{Policy::draft, Pool::average, Rule::row, frame, 0.9}, true}};
    for (double sparsity = 0.1; sparsity < 0.95; sparsity += 0.1) {
      cells.push_back({{Policy::random, {}, {}, frame, sparsity}, true});
    }
    HeadStudy study(problem, cells, {});
    const Wide e = std::exp(-static_cast<Wide>(logit));
    const double relative = 1e-12 + 64.0 * std::numeric_limits<double>::epsilon() * logit;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      SCOPED_TRACE("X = " + std::to_string(logit) + ", cell " + std::to_string(i));
      Wide recall = 0, frobenius2 = 0, least = 1;
      for (Index row = 0; row < 4; ++row) {
        const bool with = study.mask(i).kept(row, 0);
        const Wide c = static_cast<Wide>(study.mask(i).columns(row).size()) - (with ? 1 : 0), lost = 3 - c;
        const Wide total = 16 + 48 * e;
        const Wide mu = (with ? 16 * lost * e : 16 * (1 + lost * e)) / total;
        const Wide kept = (with ? 16 * (1 + c * e) : 16 * c * e) / total;
        const Wide light = with ? lost : c, heavy = with ? c : lost;  // regions beside the heavy one on its side
        const Wide sharpness =
            (light > 0 ? 1 / (16 * light) : Wide(0)) + (1 + heavy * e * e) / (16 * (1 + heavy * e) * (1 + heavy * e));
        recall += kept / 4;
        least = std::min(least, kept);
        frobenius2 += 16 * mu * mu * sharpness;
      }
      const Metrics metrics = study.metrics(i);
      EXPECT_EQ(metrics_failure(json_of(metrics), "cpu"), "");
      EXPECT_TRUE(all_checks_hold(metrics));
      expect_close(metrics, "attention_recall", recall, relative);
      expect_close(metrics, "attention_recall_min", least, relative);
      expect_close(metrics, "probs_frobenius", std::sqrt(frobenius2), relative);
      if (cells[i].policy != Policy::draft) continue;
      // Pooling is exact: eq. 10 has delta = 0 and is 2 sqrt(n) (1 - s).
      EXPECT_EQ(metric(metrics, "delta_logits"), 0.0);
      EXPECT_FALSE(find_metric("tightness_3_3") == nullptr);
      EXPECT_TRUE(std::isnan(metric(metrics, "tightness_3_3")));  // 0 of 0
      const double bound = 16.0 * (1.0 - metric(metrics, "min_kept_fraction"));
      EXPECT_NEAR(metric(metrics, "bound_3_5"), bound, 1e-12);
      expect_close(metrics, "tightness_3_5", std::sqrt(frobenius2) / static_cast<Wide>(bound), relative);
    }
  }
}

// The same in numbers: a half of the blocks kept, X = 600, recall 1, error 8 mu sqrt(1/32 + 1/16) with mu = 2 e^-600.
TEST(WideRange, AnErrorOfTenToTheMinus260) {
  const Problem problem = one_block_holds_all(600.0);
  HeadStudy study(problem, {{{Policy::draft, Pool::average, Rule::row, {4, 4}, 0.5}, true}}, {});
  const Metrics metrics = study.metrics(0);
  EXPECT_EQ(metric(metrics, "attention_recall"), 1.0);
  EXPECT_NEAR(metric(metrics, "probs_frobenius") / 1.2984238341783901e-260, 1.0, 1e-12);
}

// Given shares of e^-720, below the smallest normal number, claim: maps hold them, to their five digits.
TEST(WideRange, MapsOfSubnormalShares) {
  const Problem problem = one_block_holds_all(720.0);
  const Cell cell{{Policy::draft, Pool::average, Rule::softmax, {4, 4}, 0.5}, true};
  HeadStudy study(problem, {cell}, {});
  const Json arrays = map_arrays(study, cell, study.mask(0));
  EXPECT_EQ(arrays.at("draft_map").at(0).at(0).get<double>(), 1.0);
  EXPECT_NEAR(arrays.at("draft_map").at(0).at(1).get<double>() / std::exp(-720.0), 1.0, 1e-4);
}

// Given logits that spread over 1 to 1e5, with text and without, claim: what the definitions give in long double.
TEST(WideRange, SpreadsAreTheDefinitions) {
  const std::vector<Cell> cells = all_cells({kRegion});
  for (const Grid& grid : {Grid{2, 4, 8, 0}, Grid{1, 5, 7, 3}}) {
    for (const double spread : {0.0, 1e-3, 1.0, 10.0, 20.0, 50.0, 300.0}) {
      SCOPED_TRACE(to_string(grid) + ", spread " + std::to_string(spread));
      Problem problem = naive::random_problem(grid, 4, 1.0, 11);
      problem.q *= spread;
      problem.k *= spread;
      HeadStudy study(problem, cells, {});
      expect_definitions(problem, study, cells);
    }
  }
}

// Given text that has all the mass, or none, claim: the definitions again; kept rows live from the text alone.
TEST(WideRange, TextAlone) {
  const std::vector<Cell> cells = all_cells({kRegion});
  for (const double text : {900.0, -900.0}) {
    Problem problem = naive::random_problem({2, 4, 8, 5}, 4, 1.0, 12);
    problem.q.col(0).setConstant(2.0);
    problem.k.col(0).setZero();
    problem.k.col(0).tail(5).setConstant(text);
    HeadStudy study(problem, cells, {});
    expect_definitions(problem, study, cells);
    const Metrics character = head_character(study, kRegion);
    EXPECT_EQ(metrics_failure(json_of(character), "cpu"), "");
    EXPECT_EQ(metric(character, "mass_text"), text > 0.0 ? 1.0 : 0.0);
  }
}

// Given equal keys, and equal logits of 1e3 to 1e70 that no product gives exactly, claim: all keys weigh the same.
TEST(WideRange, TiesAreTies) {
  const std::vector<Cell> cells = all_cells({kRegion});
  for (const double size : {0.0, 0.3, 31.7, 1e5, 1e9, 1e35}) {
    SCOPED_TRACE(size);
    Problem problem = naive::random_problem({2, 5, 7, 2}, 67, 1.0, 13);
    const Eigen::RowVectorXd key = problem.k.row(0).cwiseAbs();
    problem.q = Eigen::VectorXd::Ones(72) * problem.q.row(0).cwiseAbs() * size;
    problem.k = Eigen::VectorXd::Ones(72) * key * size;
    HeadStudy study(problem, cells, {});
    const double rounding = 1e-9 + 1e-12;  // what Stripes::logits allows a product
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const Metrics metrics = study.metrics(i);
      EXPECT_EQ(metrics_failure(json_of(metrics), "cpu"), "");
      EXPECT_TRUE(all_checks_hold(metrics));
      Index kept = 0;
      const Partition partition(problem.grid, kRegion);
      for (Index row = 0; row < partition.regions(); ++row) {
        for (const Index column : study.mask(i).columns(row)) kept += partition.size(row) * partition.size(column);
      }
      EXPECT_NEAR(metric(metrics, "attention_recall"), (static_cast<double>(kept) / 70.0 + 2.0) / 72.0, rounding);
    }
  }
}

/// Metrics that have S's unit, or V's; all others have none.
double unit_of(const std::string& name, double logits, double values) {
  for (const char* one : {"delta_logits", "delta_p50", "delta_p90", "delta_p99", "delta_p999", "logits_rms_deviation",
                          "logits_frobenius", "bound_3_3", "delta_radii"}) {
    if (name == one) return logits;
  }
  return name == "output_error_max" ? values : 1.0;
}

// Given a head in other units (powers of two up to 1e150 and down to 1e-160, the scale S as before), claim: every
// metric is the same, in its unit. Only eq. 10 with the unscaled delta knows the difference.
TEST(WideRange, UnitsDoNotMatter) {
  const std::vector<Cell> cells = all_cells({kRegion});
  const Problem plain = naive::random_problem({2, 5, 7, 3}, 8, 1.5, 14);
  HeadStudy wanted_study(plain, cells, {});
  const std::vector<std::array<int, 3>> exponents{{500, 490, 500},  {-530, -400, -530}, {500, -500, 0},
                                                  {-530, 500, 900}, {0, 0, -1000},      {40, 0, 31},
                                                  {0, -100, 0},     {300, 300, -300}};
  for (const auto& [q, k, v] : exponents) {
    SCOPED_TRACE(std::to_string(q) + ", " + std::to_string(k) + ", " + std::to_string(v));
    Problem problem = plain;
    problem.q *= std::ldexp(1.0, q);
    problem.k *= std::ldexp(1.0, k);
    problem.v *= std::ldexp(1.0, v);
    problem.scale = std::ldexp(plain.scale, -q - k);
    HeadStudy study(problem, cells, {});
    for (std::size_t i = 0; i < cells.size(); ++i) {
      ASSERT_EQ(study.mask(i), wanted_study.mask(i));
      const Metrics found = study.metrics(i), wanted = wanted_study.metrics(i);
      ASSERT_EQ(found.size(), wanted.size());
      for (std::size_t m = 0; m < found.size(); ++m) {
        const std::string& name = wanted[m].first;
        ASSERT_EQ(found[m].second.applicable(), wanted[m].second.applicable()) << name;
        if (!wanted[m].second.applicable() || name == "bound_3_5_paper_delta") continue;
        const double number = wanted[m].second.number() * unit_of(name, std::ldexp(1.0, q + k), std::ldexp(1.0, v));
        EXPECT_LE(std::abs(found[m].second.number() - number), 1e-12 * std::abs(number)) << name;
      }
      EXPECT_TRUE(all_checks_hold(found));
    }
  }
}

// Given logits far below 1 or far above, claim: attention is even, or all on the best key.
TEST(WideRange, LogitsOfAnySize) {
  const std::vector<Cell> cells = all_cells({kRegion});
  for (const double size : {1e-160, 1e-100, 1e38, 1e74}) {
    SCOPED_TRACE(size);
    Problem problem = naive::random_problem({2, 4, 8, 0}, 8, 1.0, 15);
    problem.q *= size;
    problem.k *= size;
    problem.v *= size;
    HeadStudy study(problem, cells, {});
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const Metrics metrics = study.metrics(i);
      EXPECT_EQ(metrics_failure(json_of(metrics), "cpu"), "");
      EXPECT_TRUE(all_checks_hold(metrics));
      const double share = static_cast<double>(study.mask(i).kept_blocks()) / 64.0;  // all regions are of one size
      const double recall = metric(metrics, "attention_recall");
      if (size < 1.0) {
        EXPECT_NEAR(recall, share, 1e-12);
      } else {  // a whole number of the 64 rows
        EXPECT_EQ(recall * 64.0, std::round(recall * 64.0));
        EXPECT_EQ(metric(metrics, "attention_recall_min"), recall == 1.0 ? 1.0 : 0.0);
      }
    }
  }
}

// Given tensors of zeros, claim: attention is even where there are no logits, and an error relative to outputs of zeros
// is relative to nothing, which is no failure.
TEST(WideRange, Zeros) {
  const std::vector<Cell> cells = all_cells({kRegion});
  const Problem plain = naive::random_problem({2, 4, 8, 0}, 8, 1.0, 16);
  for (const std::string zeros : {"q", "k", "v", "qk", "qkv"}) {
    SCOPED_TRACE(zeros);
    Problem problem = plain;
    if (zeros.find('q') != std::string::npos) problem.q.setZero();
    if (zeros.find('k') != std::string::npos) problem.k.setZero();
    if (zeros.find('v') != std::string::npos) problem.v.setZero();
    HeadStudy study(problem, cells, {});
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const Metrics metrics = study.metrics(i);
      const Json json = json_of(metrics);
      EXPECT_EQ(metrics_failure(json, "cpu"), "");
      EXPECT_TRUE(all_checks_hold(metrics));
      const bool no_values = problem.v.isZero(0.0), no_logits = zeros != "v";
      for (const char* name :
           {"output_rel_l2", "output_rel_l1", "output_cosine", "output_psnr", "output_bound_max_ratio"}) {
        if (no_values) {
          EXPECT_TRUE(is_not_applicable(json.at(name))) << name;
        }
      }
      if (!no_logits) continue;
      EXPECT_NEAR(metric(metrics, "attention_recall"), static_cast<double>(study.mask(i).kept_blocks()) / 64.0, 1e-14);
      if (cells[i].policy != Policy::draft) continue;
      EXPECT_EQ(metric(metrics, "delta_logits"), 0.0);
      EXPECT_TRUE(is_not_applicable(json.at("tightness_3_3")));
    }
  }
}

// Given one token, and one region, claim: everything is kept, nothing is wrong, nothing is infinite.
TEST(WideRange, OneTokenAndOneRegion) {
  const std::vector<Cell> cells = all_cells({kRegion});
  for (const Grid& grid : {Grid{1, 1, 1, 0}, Grid{1, 1, 1, 1}, Grid{1, 2, 4, 0}, Grid{1, 1, 2, 3}}) {
    for (const double spread : {0.0, 1.0, 100.0}) {
      const Problem problem = naive::random_problem(grid, 3, spread, 17);
      HeadStudy study(problem, cells, {});
      for (std::size_t i = 0; i < cells.size(); ++i) {
        const Metrics metrics = study.metrics(i);
        const Json json = json_of(metrics);
        EXPECT_EQ(metrics_failure(json, "cpu"), "");
        EXPECT_TRUE(all_checks_hold(metrics));
        EXPECT_EQ(metric(metrics, "probs_frobenius"), 0.0);
        EXPECT_NEAR(metric(metrics, "attention_recall"), 1.0, 1e-15);
        EXPECT_TRUE(is_not_applicable(json.at("output_psnr")));  // of equal outputs it is infinite
        if (spread > 0.0) {
          EXPECT_EQ(metric(metrics, "output_rel_l2"), 0.0);
        }
      }
    }
  }
}

// Given a softmax of the map that underflows, so that blocks of probability 0 are kept by position, claim: such a mask
// thresholds nothing, and the theorem's checks are not applicable instead of violated.
TEST(WideRange, AMapThatUnderflowsIsNoThreshold) {
  Problem problem = naive::random_problem({4, 2, 4, 0}, 2, 0.0, 18);
  problem.scale = 1.0;
  problem.q.col(0).setOnes();
  const double logit[] = {0.0, 10.0, 20.0, 2000.0};  // by position the first two come before the third
  for (Index token = 0; token < 32; ++token) problem.k(token, 0) = logit[token / 8];
  problem.v.setOnes();
  HeadStudy study(problem,
                  {{{Policy::draft, Pool::average, Rule::softmax, kRegion, 0.5}, true},
                   {{Policy::draft, Pool::average, Rule::row, kRegion, 0.5}, true}},
                  {});
  const Json softmax = json_of(study.metrics(0)), row = json_of(study.metrics(1));
  for (const char* name : {"check_3_5", "check_step_2", "check_sharp", "tightness_3_5", "step_2_max_ratio"}) {
    EXPECT_TRUE(is_not_applicable(softmax.at(name))) << name;
    EXPECT_TRUE(row.at(name).is_number()) << name;
  }
  EXPECT_EQ(softmax.at("check_blocks"), 1.0);
  EXPECT_TRUE(all_checks_hold(study.metrics(0)) && all_checks_hold(study.metrics(1)));
}

// Claim: numbers whose logits no double holds are refused, with the tensors, the bound and what was found.
TEST(WideRange, LogitsThatDoNotExistAreRefused) {
  const std::vector<Cell> cells = all_cells({kRegion}, {0.5});
  const auto refusal = [&](double q, double k, double v) -> std::string {
    Problem problem = naive::random_problem({1, 4, 8, 0}, 4, 1.0, 19);
    problem.q *= q;
    problem.k *= k;
    problem.v *= v;
    try {
      HeadStudy study(problem, cells, {});
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(1e150, 1e150, 1e150), "");
  EXPECT_EQ(refusal(1e-160, 1e-160, 1e-160), "");
  EXPECT_NE(refusal(1e160, 1e160, 1.0).find("random problem: q and k: "), std::string::npos);
  EXPECT_NE(refusal(1e160, 1e160, 1.0).find("below 2^1023, found 2^107"), std::string::npos);
  EXPECT_NE(refusal(1.0, 1.0, 1e307).find("random problem: v: "), std::string::npos);
  EXPECT_NE(refusal(std::nan(""), 1.0, 1.0).find("q must be finite"), std::string::npos);
}

}  // namespace
}  // namespace draft
