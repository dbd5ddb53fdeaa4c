#pragma once
// Parts of the tables that timing commands print.

#include <string>
#include <vector>

#include "harness/record/record.hpp"
#include "reference/problem.hpp"

namespace draft {

/// The number record[where][name], or "-" if there is none.
std::string shown(const Json& record, const char* where, const char* name, int digits = 3);
/// "p10 to p90" of a record's samples, in ms.
std::string spread_text(const Json& record);
/// "dense", "draft avg softmax", "worst".
std::string mask_text(const Json& config);
/// One line that says which call was timed.
std::string call_text(const Json& record);
/// One line for each record that was skipped or failed, and one if cells had been timed before.
std::string notes_text(const std::vector<Json>& records, Index done_before);

}  // namespace draft
