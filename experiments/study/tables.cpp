#include "experiments/study/tables.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace draft {
namespace {

std::vector<Column> columns_of(const std::vector<std::string>& header) {
  const std::set<std::string> text{"remainder", "region", "policy", "pool", "rule", "capture"};
  std::vector<Column> columns;
  columns.reserve(header.size());
  for (const std::string& name : header) columns.push_back({name, text.contains(name) ? Align::left : Align::right});
  return columns;
}

}  // namespace

namespace {

/// The metric's numbers in the group's records that have one.
std::vector<double> numbers_of(const std::vector<Record>& records, const Group& group, const std::string& name) {
  std::vector<double> numbers;
  for (const Record& record : records) {
    if (!group(record)) continue;
    const MetricValue value = metric_of(record["metrics"], name);
    if (value.applicable()) numbers.push_back(value.number());
  }
  return numbers;
}

}  // namespace

MetricValue mean_metric(const std::vector<Record>& records, const Group& group, const std::string& name) {
  const std::vector<double> numbers = numbers_of(records, group, name);
  if (numbers.empty()) return MetricValue::not_applicable();
  return MetricValue(std::accumulate(numbers.begin(), numbers.end(), 0.0) / static_cast<double>(numbers.size()));
}

MetricValue least_metric(const std::vector<Record>& records, const Group& group, const std::string& name) {
  const std::vector<double> numbers = numbers_of(records, group, name);
  return numbers.empty() ? MetricValue::not_applicable() : MetricValue(*std::ranges::min_element(numbers));
}

Index count_records(const std::vector<Record>& records, const Group& group,
                    const std::function<bool(const Record&)>& holds) {
  return std::count_if(records.begin(), records.end(),
                       [&](const Record& record) { return group(record) && holds(record["metrics"]); });
}

std::vector<Record> distinct_values(const std::vector<Record>& records, const std::string& key) {
  std::set<Record> values;
  for (const Record& record : records) {
    if (record["config"].contains(key)) values.insert(record["config"][key]);
  }
  return {values.begin(), values.end()};
}

Group with_config(std::vector<std::pair<std::string, Record>> wanted) {
  return [wanted = std::move(wanted)](const Record& record) {
    return std::all_of(wanted.begin(), wanted.end(), [&](const auto& entry) {
      const auto found = record["config"].find(entry.first);
      return found != record["config"].end() && *found == entry.second;
    });
  };
}

std::vector<Record> distinct_masks(const std::vector<Record>& records) {
  std::vector<Record> masks;
  for (const Record& record : records) {
    if (std::ranges::find(masks, record["config"]) == masks.end()) masks.push_back(record["config"]);
  }
  return masks;
}

Group of_mask(Record mask) {
  return [mask = std::move(mask)](const Record& record) { return record["config"] == mask; };
}

std::string word_of_config(const Record& config, const char* key) {
  return config.contains(key) ? config[key].get<std::string>() : "";
}

std::vector<std::string> with_remainder(const std::vector<Record>& records, std::vector<std::string> header) {
  if (!distinct_values(records, "remainder").empty()) header.insert(header.begin(), "remainder");
  return header;
}

std::vector<std::string> with_remainder(const std::vector<Record>& records, std::vector<std::string> row,
                                        const Record& config) {
  if (!distinct_values(records, "remainder").empty()) row.insert(row.begin(), config.value("remainder", "none"));
  return row;
}

StudyTable::StudyTable(std::string title, const std::vector<std::string>& header)
    : title_(std::move(title)), table_(columns_of(header)) {}

void StudyTable::print(std::size_t measured) const {
  fmt::print("{}\n", title_);
  if (table_.empty())
    fmt::print("{}\n", measured == 0 ? "(no records)" : fmt::format("(none of {} records)", measured));
  table_.print();
  fmt::print("\n");
}

Index head_count(const std::vector<Record>& records) {
  std::set<std::pair<std::string, Index>> heads;
  for (const Record& record : records) {
    heads.emplace(record["input"]["capture"].get<std::string>(), record["input"]["head"].get<Index>());
  }
  return static_cast<Index>(heads.size());
}

}  // namespace draft
