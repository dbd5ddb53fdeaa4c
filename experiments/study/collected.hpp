#pragma once
// What a run shows: the records of its cells, whoever measured them.

#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "harness/record/record.hpp"

namespace draft {

/// The records of this run's cells by experiment, also those that an earlier run measured, in the order of the cells.
class Collected {
 public:
  void expect(const Json& cell) { expected_.emplace(cell_identity(cell), expected_.size()); }
  void add(const Json& record) {
    const auto cell = expected_.extract(cell_identity(record));
    if (!cell.empty()) records_[record["experiment"].get<std::string>()].emplace(cell.mapped(), record);
  }
  void add_file(const std::string& path, const RecordLog& log) {
    if (expected_.empty() || path.empty()) return;
    for_each_record(path, [&](const Json& record) {
      if (log.is_done(record)) add(record);
    });
  }
  [[nodiscard]] std::vector<Json> take(const std::string& experiment) {
    std::vector<Json> found;
    for (auto& [place, record] : records_[experiment]) found.push_back(std::move(record));
    return found;
  }

 private:
  std::unordered_map<std::string, std::size_t> expected_;  // identity -> place
  std::map<std::string, std::map<std::size_t, Json>> records_;
};

}  // namespace draft
