#pragma once
// What a record is: which keys it must have and of what kind their values are. Every reader of records asks here.

#include <filesystem>
#include <optional>
#include <string>

#include "harness/record/json_line.hpp"
#include "harness/record/metric_value.hpp"

namespace draft {

/// A record with a later one is refused, for what it says may mean something else.
inline constexpr int kRecordSchema = 1;

/// The first thing that keeps this value from being a record; none if it is one. A record is an object with
/// - schema: 1; experiment: a name; status: ok, failed or skipped;
/// - input, config: objects. What readers count on in them has a kind: names are text, layer, step, steps and
/// model_head
///   whole numbers, as dumps have them, other counts and seeds whole numbers of at least 0, extents and region's two
///   whole numbers of at least 1, sparsity a number from 0 to below 1;
/// - metrics: an object of finite numbers, or kNotApplicable in the place of one; may lack in a record that is not ok
///   or has a timing that is not empty;
/// and where it has them: timing, an object in which times in ms are numbers above 0 and samples_ms is a list of at
/// least one; machine, build and arrays: objects, the maps among the arrays square and of one size; notes: an object or
/// text; time and reason: text. Null is the same as no value. Other keys may hold anything. scripts/record_format.py
/// has the same rules.
std::optional<FieldFault> record_fault(const Json& record);

/// The record on this line of the file, without its `left_out` (a key, such as "arrays"), which is checked all the
/// same. Throws UsageError, in one line with the file, the line's number and the field, if the line holds none.
Json parse_record(const std::filesystem::path& path, int number, const std::string& line,
                  const std::string& left_out = "");

/// Whether this is what an interrupted write leaves of a record: the beginning, but not all, of a JSON object whose
/// first members are `schema` and `experiment`, and nothing in it keeps it from becoming a record.
bool begins_record(const std::string& line);

}  // namespace draft
