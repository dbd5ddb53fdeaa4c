#include "harness/compare/latency_change.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <numeric>
#include <utility>

#include "harness/compare/smirnov.hpp"
#include "harness/compare/student.hpp"

namespace draft {
namespace {

constexpr double kApartChance = 0.05;  // that samples which could have come in any order are apart in one of the cells
constexpr double kDriftChance = 0.01;  // that a drift within the ratio is taken for one beyond it
constexpr double kGranted = 2.0;       // standard deviations from run to run
constexpr double kPower = 1.645;       // standard errors: 19 of 20
// The same for a threshold that the outer samples set, not the middle ones: they scatter more, and those of the next
// two runs will lie elsewhere. In standard errors of the shift, for the Smirnov test and for the ends of shift();
// sought out on normal noise and on Student's t with 3 degrees.
constexpr double kPowerApart = 3.0, kPowerEnds = 6.0;
constexpr std::size_t kMostCounted = 1000;  // samples whose orders are counted; of more, so many evenly spaced ones
constexpr std::size_t kFewestOfGroup = 3;
constexpr std::size_t kFewestOfCluster = 4;
constexpr double kClusterGap = 4.0;  // standard deviations within the clusters
constexpr int kHalvings = 40;

/// One cell in logarithms.
struct Logs {
  std::vector<double> before, after;  // sorted
  double shift = 0.0, variance = 0.0;
};

/// Mean and squared standard error of what is left of sorted numbers without a fifth at either end.
std::pair<double, double> trimmed(const std::vector<double>& sorted) {
  const std::size_t count = sorted.size(), cut = count / 5, kept = count - 2 * cut;
  const double sum = std::accumulate(sorted.begin() + static_cast<std::ptrdiff_t>(cut),
                                     sorted.end() - static_cast<std::ptrdiff_t>(cut), 0.0);
  const auto winsorized = [&](std::size_t i) { return sorted[std::clamp(i, cut, count - 1 - cut)]; };
  double mean = 0.0, squares = 0.0;
  for (std::size_t i = 0; i < count; ++i) mean += winsorized(i) / static_cast<double>(count);
  for (std::size_t i = 0; i < count; ++i) squares += (winsorized(i) - mean) * (winsorized(i) - mean);
  return {sum / static_cast<double>(kept), squares / static_cast<double>(kept * (kept - 1))};
}

std::vector<double> sorted_logs(const std::vector<double>& samples) {
  std::vector<double> logs(samples.size());
  std::transform(samples.begin(), samples.end(), logs.begin(), [](double sample) { return std::log(sample); });
  std::sort(logs.begin(), logs.end());
  return logs;
}

std::vector<double> thinned(const std::vector<double>& sorted) {
  if (sorted.size() <= kMostCounted) return sorted;
  std::vector<double> few(kMostCounted);
  for (std::size_t i = 0; i < kMostCounted; ++i) few[i] = sorted[(2 * i + 1) * sorted.size() / (2 * kMostCounted)];
  return few;
}

Logs logs_of(const CellSamples& cell) {
  Logs logs{sorted_logs(cell.before), sorted_logs(cell.after)};
  const auto [old_mean, old_variance] = trimmed(logs.before);
  const auto [new_mean, new_variance] = trimmed(logs.after);
  logs.shift = new_mean - old_mean;
  logs.variance = old_variance + new_variance;
  logs.before = thinned(logs.before);
  logs.after = thinned(logs.after);
  return logs;
}

/// When samples are apart, by their counts: the least difference of the Smirnov test.
class Apart {
 public:
  explicit Apart(std::size_t cells) : chance_(kApartChance / (2.0 * static_cast<double>(cells))) {}

  /// Whether `upper`, moved up by so much, is apart from `lower`.
  bool operator()(const std::vector<double>& lower, const std::vector<double>& upper, double up) {
    return smirnov_difference(lower, upper, up) >=
           least(static_cast<std::int64_t>(lower.size()), static_cast<std::int64_t>(upper.size()));
  }

  /// The least that a cell must get slower beyond its shift for its samples to be apart.
  double least_shift(const Logs& cell) {
    double none = 0.0, enough = std::max(0.0, cell.before.back() - cell.after.front() + cell.shift);
    for (int step = 0; step < kHalvings; ++step) {
      const double middle = 0.5 * (none + enough);
      ((*this)(cell.before, cell.after, middle - cell.shift) ? enough : none) = middle;
    }
    return enough;
  }

 private:
  std::int64_t least(std::int64_t lower, std::int64_t upper) {
    const auto [found, is_new] = least_.try_emplace({lower, upper}, 0);
    if (!is_new) return found->second;
    const std::int64_t all = lower * upper;  // complete separation
    auto low = static_cast<std::int64_t>(std::ceil(kLeastApart * static_cast<double>(all) * (1.0 - 1e-12)));
    std::int64_t high = all;
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if (smirnov_chance(lower, upper, middle) <= chance_) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return found->second = high;
  }

  double chance_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::int64_t> least_;
};

/// The places of the cells that do not stand out.
std::vector<std::size_t> common_cells(const std::vector<Logs>& cells, double noise) {
  std::vector<std::size_t> order(cells.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto shift = [&](std::size_t place) { return cells[order[place]].shift; };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return cells[a].shift < cells[b].shift; });
  const double middle = shift(order.size() / 2);
  double sum = 0.0, squares = 0.0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    sum += shift(i) - middle;
    squares += (shift(i) - middle) * (shift(i) - middle);
  }
  std::size_t first = 0, last = order.size() - 1, kept_first = first, kept_last = last;
  for (std::size_t taken = 0; taken < (order.size() - 1) / 2; ++taken) {
    const auto count = static_cast<double>(last - first + 1);
    const double mean = middle + sum / count;
    const double spread = std::max(std::sqrt(std::max(0.0, squares - sum * sum / count) / (count - 1.0)), noise);
    const double t = student_upper(kFamilyChance / (2.0 * count), static_cast<int>(count) - 2);
    const double limit = (count - 1.0) * t / std::sqrt((count - 2.0 + t * t) * count);
    const bool is_low = mean - shift(first) > shift(last) - mean;
    const double extreme = shift(is_low ? first++ : last--);
    if (std::abs(extreme - mean) > limit * spread) {
      kept_first = first;
      kept_last = last;
    }
    sum -= extreme - middle;
    squares -= (extreme - middle) * (extreme - middle);
  }
  return {order.begin() + static_cast<std::ptrdiff_t>(kept_first),
          order.begin() + static_cast<std::ptrdiff_t>(kept_last) + 1};
}

struct Centre {
  double mean = 0.0, spread = 0.0;
  std::size_t count = 0;
  [[nodiscard]] double error() const { return spread / std::sqrt(static_cast<double>(count)); }
  [[nodiscard]] int freedom() const { return static_cast<int>(count) - 1; }
};

/// Count, sum and sum of squares of shifts, counted from an origin close to them.
struct Sums {
  std::size_t count = 0;
  double origin = 0.0, sum = 0.0, squares = 0.0;

  void add(double shift) {
    ++count;
    sum += shift - origin;
    squares += (shift - origin) * (shift - origin);
  }
  [[nodiscard]] Sums without(const Sums& part) const {
    return {count - part.count, origin, sum - part.sum, squares - part.squares};
  }
  /// At least two shifts.
  [[nodiscard]] Centre centre(double noise) const {
    const auto n = static_cast<double>(count);
    const double spread = std::sqrt(std::max(0.0, squares - sum * sum / n) / (n - 1.0));
    return {origin + sum / n, std::max(spread, noise), count};
  }
};

Sums sums_of(const std::vector<Logs>& cells, const std::vector<std::size_t>& places) {
  Sums sums{0, cells[places[places.size() / 2]].shift};
  for (const std::size_t i : places) sums.add(cells[i].shift);
  return sums;
}

Centre centre_of(const std::vector<Logs>& cells, const std::vector<std::size_t>& places, double noise) {
  return sums_of(cells, places).centre(noise);
}

double pooled_spread(const Centre& a, const Centre& b) {
  const double squares = a.spread * a.spread * a.freedom() + b.spread * b.spread * b.freedom();
  return std::sqrt(squares / static_cast<double>(a.freedom() + b.freedom()));
}

Shift direction(double shift) { return shift > 0.0 ? Shift::slower : Shift::faster; }

/// The group among the `common` cells that moved most surely against the others of them.
std::optional<GroupChange> changed_group(const std::vector<Logs>& cells, const std::vector<std::size_t>& common,
                                         const std::vector<std::vector<std::size_t>>& groups, double noise,
                                         double limit) {
  std::optional<GroupChange> found;
  double surest = 0.0;
  std::vector<bool> is_common(cells.size(), false);
  for (const std::size_t i : common) is_common[i] = true;
  const Sums all = sums_of(cells, common);
  for (std::size_t g = 0; g < groups.size(); ++g) {
    Sums inside{0, all.origin};
    for (const std::size_t i : groups[g]) {
      if (is_common[i]) inside.add(cells[i].shift);
    }
    const Sums outside = all.without(inside);
    if (std::min(inside.count, outside.count) < kFewestOfGroup) continue;
    const Centre own = inside.centre(noise), others = outside.centre(noise);
    const double pooled = pooled_spread(own, others);
    const double apart = own.mean - others.mean;
    const double t =
        std::abs(apart) /
        (pooled * std::sqrt(1.0 / static_cast<double>(own.count) + 1.0 / static_cast<double>(others.count)));
    const double least =
        student_upper(kFamilyChance / (2.0 * static_cast<double>(groups.size())), own.freedom() + others.freedom());
    const bool is_changed =
        std::abs(apart) > limit && std::abs(own.mean) > limit && apart * own.mean > 0.0 && t > least;
    if (!is_changed || !(t > surest)) continue;
    surest = t;
    found = GroupChange{g, std::exp(own.mean), std::exp(others.mean), direction(own.mean)};
  }
  return found;
}

/// Of common cells that are clearly two clusters, the one that changed less: where half of the cells change, neither
/// half stands out from the mean of both. Of normal shifts of 8 cells one set in 200 is parted like this, of 24 none in
/// 20,000.
std::vector<std::size_t> less_changed_cluster(const std::vector<Logs>& cells, const std::vector<std::size_t>& common,
                                              double noise, double limit) {
  for (std::size_t cut = kFewestOfCluster; cut + kFewestOfCluster <= common.size(); ++cut) {
    const double gap = cells[common[cut]].shift - cells[common[cut - 1]].shift;
    if (!(gap > kClusterGap * noise)) continue;
    const auto middle = common.begin() + static_cast<std::ptrdiff_t>(cut);
    const std::vector<std::size_t> low(common.begin(), middle), high(middle, common.end());
    const Centre below = centre_of(cells, low, noise), above = centre_of(cells, high, noise);
    if (!(gap > kClusterGap * pooled_spread(below, above) && above.mean - below.mean > limit)) continue;
    return std::abs(below.mean) < std::abs(above.mean) ? low : high;
  }
  return common;
}

/// Cells of which there are too few to see how they spread.
LatencyChanges judge_alone(const std::vector<CellSamples>& cells, double ratio) {
  LatencyChanges found;
  for (const CellSamples& cell : cells) {
    const Logs logs = logs_of(cell);
    CellChange& change = found.cells.emplace_back();
    change.ratio = median(cell.after) / median(cell.before);
    change.shift = shift(cell.before, cell.after, {ratio, cells.size()});
    std::vector<double> aligned = logs.after;
    for (double& log : aligned) log -= logs.shift;
    const double apart = separating_shift(logs.before, std::move(aligned), cells.size());
    const double error = std::sqrt(logs.variance);
    change.detectable = std::exp(std::max(std::log(ratio) + kPower * error, apart + kPowerEnds * error));
  }
  return found;
}

}  // namespace

LatencyChanges judge_latencies(const std::vector<CellSamples>& cells, double ratio,
                               const std::vector<std::vector<std::size_t>>& groups) {
  if (cells.size() < kFewestCells) return judge_alone(cells, ratio);
  std::vector<Logs> all;
  std::vector<double> variances;
  for (const CellSamples& cell : cells) {
    all.push_back(logs_of(cell));
    variances.push_back(all.back().variance);
  }
  const double noise = std::sqrt(median(variances)), limit = std::log(ratio);
  LatencyChanges found;
  std::vector<std::size_t> common = common_cells(all, noise);
  found.group = changed_group(all, common, groups, noise, limit);
  if (!found.group) common = less_changed_cluster(all, common, noise, limit);
  std::vector<bool> stands_out(cells.size(), true);
  for (const std::size_t i : common) stands_out[i] = false;
  if (found.group) {
    const std::vector<std::size_t>& members = groups[found.group->group];
    std::erase_if(common, [&](std::size_t i) { return std::binary_search(members.begin(), members.end(), i); });
  }
  const Centre centre = centre_of(all, common, noise);
  const double t95 = student_upper(0.025, centre.freedom());
  CommonDrift drift{std::exp(centre.mean), std::exp(centre.mean - t95 * centre.error()),
                    std::exp(centre.mean + t95 * centre.error()), centre.spread, centre.count};
  const double beyond_limit = std::abs(centre.mean) - limit;
  if (beyond_limit > student_upper(kDriftChance, centre.freedom()) * centre.error())
    drift.shift = direction(centre.mean);
  found.drift = drift;

  Apart apart(cells.size());
  const double t = student_upper(kFamilyChance / (2.0 * static_cast<double>(cells.size())), centre.freedom());
  const double from_run_to_run = std::sqrt(std::max(0.0, centre.spread * centre.spread - noise * noise));
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const Logs& cell = all[i];
    CellChange& change = found.cells.emplace_back();
    change.ratio = std::exp(cell.shift);
    const double error = std::hypot(std::max(centre.spread, std::sqrt(cell.variance)), centre.error());
    const double gap = apart.least_shift(cell);
    const double granted_gap = std::min(2.0 * gap, gap + kGranted * from_run_to_run);
    const double outlying = t * error;  // and its scatter, for the spread of n cells is known to a part of sqrt(2 n)
    const double by_spread = outlying + kPower * std::hypot(error, outlying / std::sqrt(centre.freedom()));
    const double by_samples = granted_gap + kPowerApart * std::sqrt(cell.variance);
    change.detectable = std::exp(std::max({limit + kPower * error, by_spread, by_samples}));
    const double beyond = cell.shift - centre.mean;
    const bool whole_counts = std::abs(centre.mean) <= limit && cell.shift * beyond > 0.0;
    const bool is_large = std::abs(beyond) > limit || (whole_counts && std::abs(cell.shift) > limit);
    if (!stands_out[i] || !is_large || !(std::abs(beyond) > outlying)) continue;
    const double granted = std::min(0.5 * std::abs(beyond), kGranted * from_run_to_run);
    const double expected = centre.mean + std::copysign(granted, beyond);
    const bool are_apart =
        beyond > 0.0 ? apart(cell.before, cell.after, -expected) : apart(cell.after, cell.before, expected);
    if (are_apart) change.shift = direction(beyond);
  }
  return found;
}

}  // namespace draft
