#pragma once
// Question: is a set of records worse than an earlier one of the same cells?
// Command: draftbench compare OLD.jsonl NEW.jsonl
// Output: a table of what became worse, changed or became better, and a line of counts; exit status 1 if worse.

#include <cstddef>

#include "experiments/input/command.hpp"
#include "harness/compare/compare.hpp"

namespace draft {

/// Adds --accuracy-ratio, --accuracy-floor, --metric-tolerance, --latency-ratio, --allow-skipped and --strict to a
/// command. `options` must live as long as the command.
void add_compare_options(CLI::App& command, CompareOptions& options);

/// Prints the findings to stdout, at most `rows` of them (0: all), worst first within each kind, then the cells that
/// one side lacks, what was not compared, and one line of counts.
void print_comparison(const Comparison& comparison, std::size_t rows);

}  // namespace draft
