#pragma once
// What the tables of study experiments share: choosing records and averaging a metric over heads.

#include <functional>
#include <string>
#include <vector>

#include "experiments/study/run.hpp"
#include "harness/table.hpp"

namespace draft {

/// Whether a record belongs to the group.
using Group = std::function<bool(const Record&)>;

/// Mean of the metric over the group's records that have a number for it; not applicable if none has.
MetricValue mean_metric(const std::vector<Record>& records, const Group& group, const std::string& name);
/// The least of their numbers, likewise.
MetricValue least_metric(const std::vector<Record>& records, const Group& group, const std::string& name);
/// Number of the group's records for which `holds(metrics)`.
Index count_records(const std::vector<Record>& records, const Group& group,
                    const std::function<bool(const Record& metrics)>& holds);

/// The distinct values of config[key], in rising order.
std::vector<Record> distinct_values(const std::vector<Record>& records, const std::string& key);
/// All of: records whose config has each of these keys with these values.
Group with_config(std::vector<std::pair<std::string, Record>> wanted);
/// The distinct configs: a mask each, in the order of the records.
std::vector<Record> distinct_masks(const std::vector<Record>& records);
/// Records with this config.
Group of_mask(Record mask);
/// A word of a config, "" if it has none of that key.
std::string word_of_config(const Record& config, const char* key);

/// A table's header, or a mask's row of it, with one more column in front if any record has a remainder: which one.
std::vector<std::string> with_remainder(const std::vector<Record>& records, std::vector<std::string> header);
std::vector<std::string> with_remainder(const std::vector<Record>& records, std::vector<std::string> row,
                                        const Record& config);

/// A line of title over a table; columns named remainder, region, policy, pool, rule and capture are text, the rest
/// numbers.
class StudyTable {
 public:
  StudyTable(std::string title, const std::vector<std::string>& header);
  void row(std::vector<std::string> cells) { table_.add_row(std::move(cells)); }
  /// To stdout, with an empty line behind it. Without a row it says of how many records it shows none.
  void print(std::size_t measured) const;

 private:
  std::string title_;
  Table table_;
};

/// Number of distinct (capture, head).
Index head_count(const std::vector<Record>& records);

}  // namespace draft
