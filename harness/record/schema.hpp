#pragma once
// What a record is: harness/record/record.schema.json, interpreted. Every reader of records asks here.

#include <filesystem>
#include <optional>
#include <string>

#include "harness/record/json_line.hpp"
#include "harness/record/metric_value.hpp"

namespace draft {

/// The version that is written and read. `draftbench convert` makes it of version 1; a later one is refused, for what
/// it says may mean something else.
inline constexpr int kRecordSchema = 2;

/// The first thing that keeps this value from being a record; none if it is one. The rules are those of
/// record.schema.json and what no schema says: numbers are finite in float64, and the maps among the arrays are square
/// and of one size. scripts/record_format.py interprets the same file.
std::optional<FieldFault> record_fault(const Json& record);

/// The record on this line of the file, without its `left_out` (a key, such as "arrays"), which is checked all the
/// same. Throws UsageError, in one line with the file, the line's number and the field, if the line holds none.
Json parse_record(const std::filesystem::path& path, int number, const std::string& line,
                  const std::string& left_out = "");

/// The JSON object on this line, whatever it says; refusals as parse_record's.
Json parse_object(const std::filesystem::path& path, int number, const std::string& line);

/// Whether this is what an interrupted write leaves of a record: the beginning, but not all, of a JSON object whose
/// first members are `schema` and `experiment`, and nothing in it keeps it from becoming a record.
bool begins_record(const std::string& line);

}  // namespace draft
