#pragma once
// What a verification prints: one line a kernel and case, and every failure.

#include <vector>

#include "harness/record/record.hpp"

namespace draft {

/// To stdout, from "verify" records: the worst over heads and token orders, then what was skipped and what failed.
void print_verification(const std::vector<Json>& records);

}  // namespace draft
