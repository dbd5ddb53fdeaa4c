// Every metric that the program writes stands in the table of metrics. What needs a GPU is asked in the tests there.
#include <gtest/gtest.h>

#include <set>

#include "experiments/flops/flops.hpp"
#include "experiments/questions/questions.hpp"
#include "experiments/timing/latency.hpp"
#include "harness/dump/synthetic.hpp"
#include "harness/record/metric_table.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

/// The names of a record's metrics, each of which the table must have.
std::set<std::string> known_names(const Json& record) {
  std::set<std::string> names;
  for (const auto& [name, value] : record["metrics"].items()) {
    names.insert(name);
    EXPECT_NE(find_metric(name), nullptr)
        << name << " of " << record["experiment"] << ": no line in harness/record/metrics.json";
  }
  EXPECT_EQ(metrics_failure(record["metrics"], ""), "");
  return names;
}

// Given every kind of synthetic head, claim: run's experiments succeed, and write all of the table's theorem, mask and
// map metrics and no other.
TEST(MetricNames, OfEveryStudyAreInTheTable) {
  const TemporaryDirectory directory;
  std::set<std::string> found;
  for (const SyntheticKind kind : synthetic_kinds()) {
    Options options;
    options.dump = directory / (to_string(kind) + ".h5");
    options.out = directory / (to_string(kind) + ".jsonl");
    options.sparsities = {0.5, 0.9};
    options.remainders = {Remainder::none, Remainder::pooled};
    options.quiet = true;
    write_synthetic_dump(options.dump, {kind, Grid{2, 9, 17, 3}, 1, 1, 64, 5}, Element::float32, "test");
    EXPECT_EQ(run_experiments(options, {bounds_experiment(options), pooling_experiment(options),
                                        regions_experiment(options), maps_experiment(options)}),
              kExitFine)
        << to_string(kind);
    const std::vector<Json> records = read_records(options.out);
    EXPECT_GT(records.size(), 50U);
    for (const Json& record : records) {
      EXPECT_EQ(record["status"], "ok") << record;
      found.merge(known_names(record));
    }
  }
  for (const MetricEntry& entry : metric_table()) {
    const std::string name = entry.name;
    const bool is_studys = name.starts_with("check_") || name.starts_with("output_") || name.starts_with("bound_") ||
                           name.starts_with("mass_") || name.starts_with("delta_") || name.starts_with("tightness_");
    if (is_studys) {
      EXPECT_TRUE(found.contains(name)) << name << " is written by nothing";
    }
  }
}

TEST(MetricNames, OfFlopsAndTimedCallsAreInTheTable) {
  const std::vector<Json> records = flop_records();
  EXPECT_GT(records.size(), 10U);
  for (const Json& record : records) known_names(record);
  const Json timed = make_record("latency", Json::object(), Json::object(), metrics_of(kept_counts({1, 1}, 2, 1, 0)));
  EXPECT_EQ(known_names(timed).size(), 8U);
}

}  // namespace
}  // namespace draft
