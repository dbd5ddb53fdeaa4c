#pragma once
// What `latency` prints: one line a cell, then what was not timed.

#include <string>
#include <vector>

#include "harness/record/record.hpp"
#include "reference/problem.hpp"

namespace draft {

/// The table's lines from "latency" records, and one for each that was skipped or failed. `done_before`: cells that an
/// earlier run had timed.
std::string latency_text(const std::vector<Json>& records, Index done_before);
/// To stdout.
void print_latency(const std::vector<Json>& records, Index done_before);

}  // namespace draft
