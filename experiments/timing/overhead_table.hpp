#pragma once
// What `overhead` prints: one line a part, in ms and as a share of the attention.

#include <string>
#include <vector>

#include "harness/record/record.hpp"
#include "reference/problem.hpp"

namespace draft {

/// The table's lines from "overhead" records, and one for each that was skipped or failed. `done_before`: cells that an
/// earlier run had timed.
std::string overhead_text(const std::vector<Json>& records, Index done_before);
/// To stdout.
void print_overhead(const std::vector<Json>& records, Index done_before);

}  // namespace draft
