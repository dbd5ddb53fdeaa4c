#include "harness/compare/compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <utility>

#include "harness/compare/accuracy.hpp"
#include "harness/compare/timing_match.hpp"

namespace draft {
namespace {

bool is_check(const std::string& metric) { return metric.starts_with("check_"); }

/// Whether the value alone says that something is wrong: a check that fails, an error beyond its tolerance, no number.
bool is_broken(const std::string& metric, const Json& value) {
  if (value == kNotApplicable) return false;
  if (!is_finite(value)) return value.is_number();
  return is_check(metric) ? value != 1.0 : is_share_of_tolerance(metric) && value > 1.0;
}

std::string text_or(const Json& value, const std::string& otherwise) {
  return value.is_string() ? value.get<std::string>() : otherwise;
}

std::string status_of(const Json& record) { return text_or(part(record, "status"), "without a status"); }

Json cell_of(const Json& record) {
  Json cell;
  for (const char* key : {"experiment", "input", "config"}) cell[key] = part(record, key);
  return cell;
}

/// The last record of each cell, by identity.
std::map<std::string, const Json*> last_by_cell(const std::vector<Json>& records) {
  std::map<std::string, const Json*> cells;
  for (const Json& record : records) cells[cell_identity(record)] = &record;
  return cells;
}

/// Keys of the cells' configs that have more than one value.
std::set<std::string> varying_keys(const std::vector<Json>& before, const std::vector<Json>& after) {
  std::map<std::string, std::set<std::string>> values;
  for (const std::vector<Json>* records : {&before, &after}) {
    for (const Json& record : *records) {
      if (!part(record, "config").is_object()) continue;
      for (const auto& [key, value] : part(record, "config").items()) values[key].insert(value.dump());
    }
  }
  std::set<std::string> varying;
  for (const auto& [key, found] : values) {
    if (found.size() > 1) varying.insert(key);
  }
  return varying;
}

struct Pair {
  const Json* before;
  const Json* after;
};

/// The old record has a timing and the new one could have one.
bool is_timed(const Pair& pair) {
  return part(*pair.before, "timing").is_object() && status_of(*pair.before) == "ok" && status_of(*pair.after) == "ok";
}

bool has_comparable_latency(const Pair& pair) {
  return is_timed(pair) && why_not_comparable(*pair.before, *pair.after).empty();
}

std::string plain(const Json& value) { return value.is_string() ? value.get<std::string>() : record_line(value); }

/// Cells by what they share: "kernel mma", "capture layer3", with their places in `pairs`.
std::map<std::string, std::vector<std::size_t>> shared_values(const std::vector<Pair>& pairs) {
  std::map<std::string, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const Json &config = part(*pairs[i].after, "config"), &input = part(*pairs[i].after, "input");
    for (const char* key : {"capture", "shape", "layer", "head"}) {
      if (!part(input, key).is_null()) groups[std::string(key) + ' ' + plain(part(input, key))].push_back(i);
    }
    if (!config.is_object()) continue;
    for (const auto& [key, value] : config.items()) groups[key + ' ' + plain(value)].push_back(i);
  }
  return groups;
}

Verdict verdict_of(Shift shift) { return shift == Shift::slower ? Verdict::regression : Verdict::improvement; }

/// Cells of one identity; what is left over by what it measures, for the same may have run on another GPU.
std::vector<Pair> paired(std::map<std::string, const Json*>& before, std::map<std::string, const Json*>& after) {
  std::vector<Pair> pairs;
  for (auto old = before.begin(); old != before.end();) {
    const auto found = after.find(old->first);
    if (found == after.end()) {
      ++old;
      continue;
    }
    pairs.push_back({old->second, found->second});
    after.erase(found);
    old = before.erase(old);
  }
  std::map<std::string, std::string> elsewhere;  // what is measured: the identity
  for (const auto& [identity, record] : after) elsewhere.emplace(measured_cell(*record), identity);
  for (auto old = before.begin(); old != before.end();) {
    const auto found = elsewhere.find(measured_cell(*old->second));
    if (found == elsewhere.end()) {
      ++old;
      continue;
    }
    pairs.push_back({old->second, after.at(found->second)});
    after.erase(found->second);
    elsewhere.erase(found);
    old = before.erase(old);
  }
  return pairs;
}

/// Compares cell by cell and gathers what there is to say.
class Comparer {
 public:
  explicit Comparer(const CompareOptions& options) : options_(options) {}

  Comparison run(const std::vector<Json>& before, const std::vector<Json>& after) {
    auto old_cells = last_by_cell(before), new_cells = last_by_cell(after);
    const std::vector<Pair> pairs = paired(old_cells, new_cells);
    for (const auto& [identity, record] : old_cells) result_.only_before.push_back(cell_of(*record));
    for (const auto& [identity, record] : new_cells) {
      result_.only_after.push_back(cell_of(*record));
      alone(*record);
    }
    result_.varying = varying_keys(before, after);
    result_.cells = pairs.size();
    judge(pairs);
    std::size_t judged = 0;  // of result_.judged, those before this pair
    for (const Pair& pair : pairs) {
      compared_ = false;
      status(pair);
      metrics(pair);
      latency(pair, judged);
      result_.measured += compared_ ? 1 : 0;
    }
    for (const auto& [what, cells] : said_) {
      result_.notes.push_back(fmt::format("{} ({} cell{})", what, cells, cells == 1 ? "" : "s"));
    }
    return std::move(result_);
  }

 private:
  void add(Verdict verdict, const Pair& pair, const std::string& metric, const Json& before, const Json& after,
           const std::string& note = "") {
    compared_ = true;
    result_.findings.push_back({verdict, cell_of(*pair.after), metric, before, after, note});
  }
  void say(const std::string& what) { ++said_[what]; }

  /// A cell that the old side lacks: there is nothing to compare, but it may be broken.
  void alone(const Json& record) {
    const auto find = [&](const std::string& metric, const Json& value, const std::string& note) {
      result_.findings.push_back({Verdict::regression, cell_of(record), metric, nullptr, value, note});
    };
    if (status_of(record) == "failed") find("status", "failed", text_or(part(record, "reason"), ""));
    const Json& metrics = part(record, "metrics");
    if (status_of(record) == "skipped" || !metrics.is_object()) return;
    for (const auto& [name, value] : metrics.items()) {
      if (is_broken(name, value)) find(name, value, "a new cell");
    }
  }

  void status(const Pair& pair) {
    const std::string before = status_of(*pair.before), after = status_of(*pair.after);
    if (before == after) {
      if (before != "ok") say(before + " in both");
      return;
    }
    Verdict verdict = Verdict::regression;
    if (after == "ok") verdict = Verdict::improvement;
    if (after == "skipped" && (before != "ok" || options_.allow_skipped)) verdict = Verdict::change;
    add(verdict, pair, "status", before, after, text_or(part(*pair.after, "reason"), ""));
  }

  void metrics(const Pair& pair) {
    if (status_of(*pair.before) == "skipped" || status_of(*pair.after) == "skipped") return;
    const Json &before = part(*pair.before, "metrics"), &after = part(*pair.after, "metrics");
    if (before.is_object()) {
      for (const auto& [name, value] : before.items()) {
        if (after.is_object() && after.contains(name)) {
          compared_ = true;
          metric(pair, name, value, after.at(name));
        } else {
          const bool must_stay = is_kernel_error(name) || is_check(name);
          add(must_stay ? Verdict::regression : Verdict::change, pair, name, value, nullptr, "missing");
        }
      }
    }
    if (!after.is_object()) return;
    for (const auto& [name, value] : after.items()) {
      if (before.is_object() && before.contains(name)) continue;
      if (is_broken(name, value)) {
        add(Verdict::regression, pair, name, nullptr, value, is_finite(value) ? "new" : "not finite");
      } else {
        say("metric " + name + " is new");
      }
    }
  }

  void metric(const Pair& pair, const std::string& name, const Json& before, const Json& after) {
    if (before == kNotApplicable || after == kNotApplicable) {
      const bool is_lost = (is_check(name) || is_kernel_error(name)) && after == kNotApplicable;
      const bool is_worse = is_lost || is_broken(name, after);
      if (before != after) add(is_worse ? Verdict::regression : Verdict::change, pair, name, before, after);
      return;
    }
    if (!is_finite(before)) return other(pair, name, before, after);
    if (!is_finite(after)) return add(Verdict::regression, pair, name, before, after, "not finite");
    if (is_kernel_error(name)) return error(pair, name, before, after);
    if (!is_check(name)) return other(pair, name, before, after);
    const double difference = after.get<double>() - before.get<double>();
    if (difference != 0.0) add(difference < 0 ? Verdict::regression : Verdict::improvement, pair, name, before, after);
  }

  void error(const Pair& pair, const std::string& name, const Json& before, const Json& after) {
    const double floor = options_.accuracy_floor.value_or(accuracy_floor(name, *pair.after));
    const auto is_worse = [&](double good, double bad) {
      if (is_share_of_tolerance(name) && good <= 1.0 && bad > 1.0) return true;
      return bad > good * options_.accuracy_ratio && bad - good > floor;
    };
    const auto old_error = before.get<double>(), new_error = after.get<double>();
    if (is_worse(old_error, new_error)) add(Verdict::regression, pair, name, before, after);
    if (is_worse(new_error, old_error)) add(Verdict::improvement, pair, name, before, after);
  }

  /// A metric that is no error, or had no finite value before.
  void other(const Pair& pair, const std::string& name, const Json& before, const Json& after) {
    bool same = before == after;
    if (is_finite(before) && is_finite(after)) {
      const auto old_value = before.get<double>(), new_value = after.get<double>();
      // A residual of numbers of order one is all rounding: in a sound run it has no digits to keep.
      const double least = name.ends_with("_residual") ? 1.0 : 0.0;
      const double scale = std::max({std::abs(old_value), std::abs(new_value), least});
      same = std::abs(new_value - old_value) <= options_.metric_tolerance * scale;
    } else if (before.is_number()) {
      same = !is_finite(after);  // NaN equals nothing, not even itself
    }
    if (!same) add(Verdict::change, pair, name, before, after);
  }

  /// Judges the latencies of all cells that have comparable ones, and finds what several of them did together.
  void judge(const std::vector<Pair>& all) {
    std::vector<Pair> pairs;
    std::copy_if(all.begin(), all.end(), std::back_inserter(pairs), has_comparable_latency);
    result_.latencies = pairs.size();
    std::vector<CellSamples> samples;
    samples.reserve(pairs.size());
    for (const Pair& pair : pairs) samples.push_back({timing_samples(*pair.before), timing_samples(*pair.after)});
    std::vector<std::string> names;
    std::vector<std::vector<std::size_t>> groups;
    for (auto& [name, places] : shared_values(pairs)) {
      if (places.size() == 1 || places.size() == pairs.size()) continue;
      names.push_back(name);
      groups.push_back(places);
    }
    const LatencyChanges changes = judge_latencies(samples, options_.latency_ratio, groups);
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      result_.judged.push_back(
          {cell_of(*pairs[i].after), median(samples[i].before), median(samples[i].after), changes.cells[i]});
    }
    result_.drift = changes.drift;
    if (changes.group) {
      const GroupChange& group = *changes.group;
      result_.findings.push_back({verdict_of(group.shift),
                                  {{"experiment", "cells of " + names[group.group]}},
                                  "group_drift",
                                  group.others,
                                  group.ratio,
                                  fmt::format("{} cells together, old: the other cells", groups[group.group].size())});
    }
    if (!changes.drift || changes.drift->shift == Shift::none) return;
    const CommonDrift& drift = *changes.drift;
    result_.findings.push_back(
        {verdict_of(drift.shift),
         {{"experiment", changes.group ? "the other cells" : "all timed cells"}},
         "common_drift",
         1.0,
         drift.ratio,
         fmt::format("{} cells together, 95% interval {:.4g} to {:.4g}", drift.cells, drift.low, drift.high)});
  }

  void latency(const Pair& pair, std::size_t& judged) {
    if (!is_timed(pair)) return;
    if (!part(*pair.after, "timing").is_object()) {
      return add(Verdict::regression, pair, "timing", nullptr, nullptr, "missing");
    }
    const std::string why = why_not_comparable(*pair.before, *pair.after);
    if (!why.empty() && has_lost_samples(*pair.before, *pair.after)) {
      return add(Verdict::regression, pair, "timing", timing_samples(*pair.before).size(),
                 timing_samples(*pair.after).size(), "samples: no latency any more");
    }
    if (!why.empty()) return say("latency not compared: " + why);
    compared_ = true;
    const JudgedLatency& latency = result_.judged[judged++];
    const Shift found = latency.change.shift;
    if (found != Shift::slower && found != Shift::faster) return;
    add(verdict_of(found), pair, "median_ms", latency.before, latency.after,
        clock_difference(*pair.before, *pair.after));
  }

  const CompareOptions& options_;
  Comparison result_;
  bool compared_ = false;                    // something of the latest pair
  std::map<std::string, std::size_t> said_;  // note -> cells
};

}  // namespace

std::size_t Comparison::count(Verdict verdict) const {
  return static_cast<std::size_t>(std::count_if(findings.begin(), findings.end(),
                                                [&](const Finding& finding) { return finding.verdict == verdict; }));
}

bool Comparison::fails(bool strict) const {
  if (count(Verdict::regression) > 0) return true;
  return strict && (count(Verdict::change) > 0 || !only_before.empty());
}

Comparison compare(const std::vector<Json>& before, const std::vector<Json>& after, const CompareOptions& options) {
  return Comparer(options).run(before, after);
}

}  // namespace draft
