#include "harness/record/metric_table.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace draft {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(MetricTable, EveryEntryIsFoundByItsName) {
  for (const MetricEntry& entry : metric_table()) {
    EXPECT_EQ(find_metric(entry.name), &entry);
    EXPECT_LE(entry.lowest, entry.highest) << entry.name;
  }
  EXPECT_EQ(find_metric("attention_recal"), nullptr);
  EXPECT_EQ(find_metric(""), nullptr);
  EXPECT_EQ(find_metric("zzz"), nullptr);
}

// Claim: what can be passes, at the ends of the range and as far beyond as rounding leads.
TEST(MetricTable, PossibleValuesPass) {
  const Json metrics{{"attention_recall", 1.0 + 5e-11},
                     {"mean_dropped_mass", 0.0},
                     {"output_cosine", -1.0},
                     {"output_psnr", -3.0},
                     {"kept_blocks", 3},
                     {"total_blocks", 3},
                     {"output_rel_l2", kNotApplicable},
                     {"check_3_5", 1.0},
                     {"some_other", -7}};
  EXPECT_EQ(metrics_failure(metrics, "cpu"), "");
  EXPECT_EQ(metrics_failure({{"attention_recall", 1.00002}}, "cuda"), "");
  EXPECT_EQ(metrics_failure(Json::object(), "cpu"), "");
}

// Claim: what cannot be is named with its value and its range.
TEST(MetricTable, ImpossibleValuesAreNamed) {
  const auto failure = [](const Json& metrics, const char* device = "cpu") { return metrics_failure(metrics, device); };
  EXPECT_EQ(failure({{"attention_recall", 2.08}}), "metric attention_recall is 2.08, possible are 0 to 1");
  EXPECT_NE(failure({{"attention_recall", 1.00002}}), "");
  EXPECT_NE(failure({{"attention_recall", 1.001}}, "cuda"), "");
  EXPECT_NE(failure({{"max_dropped_mass", -1e-300}}), "");
  EXPECT_EQ(failure({{"output_cosine", -1.1}}), "metric output_cosine is -1.1, possible are -1 to 1");
  EXPECT_EQ(failure({{"bound_3_3", -2}}), "metric bound_3_3 is -2, possible are 0 to any");
  EXPECT_EQ(failure({{"output_psnr", kInfinity}}), "metric output_psnr is inf");
  EXPECT_EQ(failure({{"unheard_of", std::nan("")}}), "metric unheard_of is nan");
  EXPECT_EQ(failure({{"attention_recall", kNotApplicable}}),
            "metric attention_recall is not applicable, wanted a number");
  EXPECT_EQ(failure({{"delta_logits", "7"}}), "metric delta_logits is \"7\", wanted a number");
  EXPECT_EQ(failure({{"delta_logits", nullptr}}), "metric delta_logits is null, wanted a number");
  EXPECT_EQ(failure({{"check_3_3", 2}, {"step_1_row_l1_max", 3}}),
            "metric check_3_3 is 2, possible are 0 to 1; metric step_1_row_l1_max is 3, possible are 0 to 2");
}

// Claim: metrics that contradict each other fail though each is in its range.
TEST(MetricTable, ContradictionsAreNamed) {
  EXPECT_EQ(metrics_failure({{"attention_recall", 0.5}, {"attention_recall_min", 0.6}}, "cpu"),
            "metric attention_recall_min is 0.6, possible is at most attention_recall, 0.5");
  EXPECT_NE(metrics_failure({{"kept_blocks", 4}, {"total_blocks", 3}}, "cpu"), "");
  EXPECT_NE(metrics_failure({{"probs_frobenius", 4.1}, {"trivial_bound", 4.0}}, "cpu"), "");
  EXPECT_EQ(metrics_failure({{"attention_recall", 0.5}, {"mean_dropped_mass", 0.6}}, "cpu"),
            "metrics attention_recall and mean_dropped_mass are 0.5 and 0.6, possible is a sum of 1");
  EXPECT_EQ(metrics_failure({{"attention_recall", 0.5}, {"mean_dropped_mass", 0.5}}, "cpu"), "");
}

TEST(MetricValue, RatiosThatAreRelativeToNothing) {
  EXPECT_EQ(ratio(3.0, 2.0), MetricValue(1.5));
  EXPECT_EQ(ratio(0.0, 2.0), MetricValue(0.0));
  EXPECT_FALSE(ratio(0.0, 0.0).applicable());
  EXPECT_FALSE(ratio(1.0, 0.0).applicable());
  EXPECT_FALSE(ratio(1e200, 1e-200).applicable());             // no double holds it
  EXPECT_TRUE(std::isnan(ratio(std::nan(""), 1.0).number()));  // a NaN must show
  EXPECT_FALSE(ratio(MetricValue::not_applicable(), MetricValue(1.0)).applicable());
  EXPECT_THROW(static_cast<void>(MetricValue::not_applicable().number()), std::bad_optional_access);
}

TEST(MetricValue, InRecordsAndTables) {
  EXPECT_EQ(to_json(2.5), Json(2.5));
  EXPECT_EQ(to_json(MetricValue::not_applicable()), Json("not_applicable"));
  EXPECT_EQ(metric_text(2.5), "2.5");
  EXPECT_EQ(metric_text(MetricValue::not_applicable()), "n/a");
  const Json metrics{{"a", 2.5}, {"b", kNotApplicable}, {"c", nullptr}};
  EXPECT_EQ(metric_of(metrics, "a"), MetricValue(2.5));
  for (const char* name : {"b", "c", "d"}) EXPECT_FALSE(metric_of(metrics, name).applicable()) << name;
}

}  // namespace
}  // namespace draft
