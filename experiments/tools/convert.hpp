#pragma once
// Question: what do records of version 1 say in version 2?
// Command:  draftbench convert OLD.jsonl --out NEW.jsonl
// Output:   NEW.jsonl, line by line what OLD.jsonl says; records of version 2 stay as they are.

#include <filesystem>

#include "harness/record/record.hpp"

namespace draft {

/// A record of version 1 as version 2 has it (harness/record/record.schema.json):
/// - the grid is input.grid in every experiment, and a random call has no capture: its input says all of it;
/// - the model of a flops record stands in its input alone;
/// - verify's mask of thirds has its own name, where it shared latency's, "uneven";
/// - `run` joins what one timed run left: build, GPU, driver and the rate of its matrix product. Others have none;
/// - a projection's parts (projected_other_s, _calls, _sparse_share) are worked out from its times;
/// - metrics are an object, if empty.
/// What is none of these stays.
Json version_2_of(Json record);

/// Writes every line of `from` as version 2 to `to`, which must not be there; it is there when all lines are. Throws
/// UsageError, with the line, for what is no record of either version, and if a file cannot be read or written.
void convert_records(const std::filesystem::path& from, const std::filesystem::path& to);

}  // namespace draft
