#pragma once
// Two sets of records of the same cells, an old and a new one: what became worse, what changed, what became better.

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "harness/compare/latency_change.hpp"
#include "harness/record/record.hpp"

namespace draft {

struct CompareOptions {
  double accuracy_ratio = 1.5;                          // --accuracy-ratio: an error may grow by this factor
  std::optional<double> accuracy_floor = std::nullopt;  // --accuracy-floor: and by this much; none: accuracy_floor()
  double metric_tolerance = 1e-9;                       // --metric-tolerance: relative, for metrics that are no errors
  double latency_ratio = 1.05;                          // --latency-ratio: medians may differ by this factor
  bool allow_skipped = false;                           // --allow-skipped: ok -> skipped is a change, no regression
  bool strict = false;                                  // --strict: changes and cells that are gone fail as well
};

enum class Verdict { regression, change, improvement };

/// One thing that differs between the two records of a cell.
struct Finding {
  Verdict verdict;
  Json cell;  // the new record's experiment, input and config; of several cells: what they share, as experiment
  std::string metric;  // a metric's name, "median_ms", "status", or of several cells "common_drift" or "group_drift"
  Json before, after;  // numbers; text for a status; null where there is none
  std::string note;    // e.g. the reason of a failure, or clocks that differ; may be empty
};

/// One cell whose latency was judged.
struct JudgedLatency {
  Json cell;
  double before = 0.0, after = 0.0;  // medians in ms
  CellChange change;
};

struct Comparison {
  std::vector<Finding> findings;              // by cell, in the order of the cells' identities
  std::vector<Json> only_before, only_after;  // experiment, input and config of cells that one side lacks
  std::vector<std::string> notes;             // what was not compared and why, one line each, with counts
  std::set<std::string> varying;              // keys of config whose values differ between cells of either side
  std::size_t cells = 0;                      // in both
  std::size_t measured = 0;                   // of these, cells of which anything was compared
  std::size_t latencies = 0;                  // of these, cells whose latency was judged
  std::vector<JudgedLatency> judged;          // they, in the findings' order
  std::optional<CommonDrift> drift;           // of their latencies; none: too few to tell

  [[nodiscard]] std::size_t count(Verdict verdict) const;
  /// A regression, or with `strict` also a change or a cell that the new side lacks.
  [[nodiscard]] bool fails(bool strict) const;
};

/// Pairs records by cell_identity, and what is left by measured_cell (another GPU); the last record of a cell counts.
/// Never throws on a well-formed record.
/// - Status: ok -> failed, ok -> skipped (unless allowed) and skipped -> failed are regressions.
/// - Errors of a kernel (is_kernel_error): worse if new > old * ratio and new - old > floor; a ratio to a tolerance
///   also if it was at most 1 and no longer is. Better by the same rule the other way round.
/// - check_* flags: 1 -> 0 is a regression. Other metrics: a change if they differ by more than the relative tolerance
///   (absolute for *_residual: what is left of an identity between numbers of order one is rounding alone).
/// - A metric that was finite and is not (NaN, infinite, null), and an error or a check that is no longer there, is a
///   regression; another metric that is no longer there is a change.
/// - kNotApplicable on both sides is equal. An error or a check that applied and does not any more is a regression, for
///   nobody holds it now; any other metric that begins or ceases to be applicable is a change.
/// - What is broken by itself is a regression where it is new, in a new cell too: a failed record, a check that is not
/// 1,
///   a share of a tolerance above 1.
/// - Latency: timing.samples_ms of two ok records, by judge_latencies() over all judged cells at once. Cells that
/// changed
///   are findings of their own; a drift beyond the ratio of all of them, or of those that share a value of config or of
///   input (capture, layer, head), is one finding. A timing that is gone, or has fewer than kFewestSamples
///   where the old one had enough, is a regression. Not judged, with a note: too few on the old side already, another
///   GPU (another processor where config.device is cpu), another l2_flush.
/// Metrics are compared wherever neither record is skipped.
Comparison compare(const std::vector<Json>& before, const std::vector<Json>& after, const CompareOptions& options);

}  // namespace draft
