#pragma once
// What a record is: which keys it must have and of what kind their values are. Every reader of records asks here.

#include <filesystem>
#include <optional>
#include <string>

#include "harness/json_line.hpp"
#include "harness/metric_value.hpp"

namespace draft {

/// A record with a later one is refused, for what it says may mean something else.
inline constexpr int kRecordSchema = 1;

/// The first thing that keeps this value from being a record; none if it is one. A record is an object with
/// - schema: 1; experiment: text; status: ok, failed or skipped;
/// - input, config: objects. Where they have them: dump, sha256, capture, policy, pool, rule, kernel, element, order,
///   device are text, head, layer, step and seed whole numbers of at least 0, region two whole numbers of at least 1,
///   sparsity a number from 0 to below 1;
/// - metrics: an object of finite numbers, or kNotApplicable in the place of one; may lack in a record that is not ok
///   or has a timing;
/// and where it has them: timing, an object in which median_ms, p10_ms, p90_ms and tflops_kept are finite numbers and
/// samples_ms is a list of numbers above 0; machine, build and arrays: objects; notes: an object or text; time and
/// reason: text. Null is the same as no value. Other keys may hold anything. scripts/record_format.py has the same
/// rules, and those of the fields that only the report reads.
std::optional<FieldFault> record_fault(const Json& record);

/// The record on this line of the file, without its `left_out` (a key, such as "arrays"). Throws UsageError, in one
/// line with the file, the line's number and the field, if the line holds none.
Json parse_record(const std::filesystem::path& path, int number, const std::string& line,
                  const std::string& left_out = "");

/// Whether this is what an interrupted write leaves of a record: the beginning, but not all, of a JSON object whose
/// first members are `schema` and `experiment`, and nothing in it keeps it from becoming a record.
bool begins_record(const std::string& line);

}  // namespace draft
