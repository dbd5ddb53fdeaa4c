#include "experiments/study/head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <stdexcept>

#include "experiments/study/metrics.hpp"
#include "harness/options.hpp"
#include "reference/parallel.hpp"

namespace draft {
namespace {

/// The order of the blocks that a cell's mask cuts; `softmax` and `released` share theirs.
struct FamilyKey {
  std::size_t partition;
  Policy policy;
  Pool pool;
  Rule rule;
  double sparsity;  // of masks that are not nested; else 0
  bool released;
  Remainder remainder;
  auto operator<=>(const FamilyKey&) const = default;
};

FamilyKey family_key(const Cell& cell, std::size_t partition) {
  const double sparsity = row_of(cell.policy).rank == nullptr ? cell.sparsity : 0.0;
  if (!reads_map(cell.policy)) {
    return {partition, cell.policy, Pool::average, Rule::logits, sparsity, cell.released, cell.remainder};
  }
  const Rule rule = cell.rule == Rule::released ? Rule::softmax : cell.rule;
  return {partition, cell.policy, cell.pool, rule, sparsity, cell.released, cell.remainder};
}

/// A mask as an order of blocks: its own come first.
Ranking kept_first(const BlockMask& mask) {
  const Index regions = mask.regions();
  Matrix kept(regions, regions);
  for (Index row = 0; row < regions; ++row) {
    for (Index column = 0; column < regions; ++column) kept(row, column) = mask.kept(row, column) ? 1.0 : 0.0;
  }
  return rank_blocks(kept, false);
}

/// Calls work(0) .. work(items - 1) on all cores.
void for_each_index(std::size_t items, int threads, const std::function<void(std::size_t)>& work) {
  parallel_for(static_cast<Index>(items), threads, [&] { return [&](Index i) { work(static_cast<std::size_t>(i)); }; });
}

}  // namespace

double metric(const Metrics& metrics, const std::string& name) {
  for (const auto& [key, value] : metrics) {
    if (key == name && value.applicable()) return value.number();
  }
  return std::numeric_limits<double>::quiet_NaN();
}

struct HeadStudy::Plan {
  using MapKey = std::pair<std::size_t, Pool>;  // partition, pooling

  Plan(const Problem& the_problem, std::vector<Cell> the_cells, const std::vector<RegionSize>& extra_regions,
       const StudySettings& the_settings);

  void pool_maps(int threads);
  void sweep_first(Sweeps& sweeps);
  [[nodiscard]] PolicyInput policy_input(const Cell& cell) const;
  std::vector<MaskFamily> choose_masks();
  [[nodiscard]] std::size_t partition_index(RegionSize region) const;
  const DraftMap& map(std::size_t partition, Pool pool);

  std::optional<Normalised> rescaled;  // the head in other units, where its own numbers are too large or too small
  const Problem& problem;
  std::vector<Cell> cells;
  StudySettings settings;
  bool clustered;  // blocks are of any size
  std::vector<RegionSize> sizes;
  std::vector<Partition> partitions;
  std::map<MapKey, DraftMap> maps;
  std::map<MapKey, PoolingError> pooling;
  std::map<MapKey, std::size_t> deviations;  // index into first.deviations
  LogitSweep first;
  std::vector<std::pair<std::size_t, std::size_t>> place;  // [cell] -> family, mask
  std::vector<BlockMask> masks;                            // [cell]
  std::map<std::size_t, CoarseRegions> coarse;             // by partition, of those with a remainder
  MaskSweep second;
  std::vector<std::vector<Index>> row_region;  // [partition][row of the effects] -> region
  double longest_value = 0.0;
  Slack slack{};
};

HeadStudy::Plan::Plan(const Problem& the_problem, std::vector<Cell> the_cells,
                      const std::vector<RegionSize>& extra_regions, const StudySettings& the_settings)
    : rescaled((require_valid(the_problem), require_measurable(the_problem), normalised(the_problem))),
      problem(rescaled ? rescaled->problem : the_problem),
      cells(std::move(the_cells)),
      settings(the_settings),
      clustered(settings.clusters != nullptr) {
  const auto want = [&](RegionSize size) {
    if (std::find(sizes.begin(), sizes.end(), size) == sizes.end()) sizes.push_back(size);
  };
  for (const Cell& cell : cells) want(cell.region);
  for (const RegionSize size : extra_regions) want(size);
  if (sizes.empty()) throw std::invalid_argument("study: wanted at least one cell or region, found none");
  for (const RegionSize size : sizes) {
    partitions.push_back(clustered ? pieces_of(*settings.clusters, problem.grid) : Partition(problem.grid, size));
    if (problem.grid.causal && partitions.back().regions() < 2) {
      throw UsageError(fmt::format("--region {}: a causal head wants two regions or more, found one on {}",
                                   to_string(size), to_string(problem.grid)));
    }
  }
}

std::size_t HeadStudy::Plan::partition_index(RegionSize region) const {
  const auto found = std::find(sizes.begin(), sizes.end(), region);
  if (found == sizes.end()) throw std::invalid_argument("study: region " + to_string(region) + " was not planned");
  return static_cast<std::size_t>(found - sizes.begin());
}

const DraftMap& HeadStudy::Plan::map(std::size_t partition, Pool pool) {
  const auto found = maps.find({partition, pool});
  if (found != maps.end()) return found->second;
  return maps.emplace(MapKey{partition, pool}, draft_scores(problem, partitions[partition], pool)).first->second;
}

void HeadStudy::Plan::pool_maps(int threads) {
  std::vector<std::pair<const MapKey, DraftMap>*> wanted;
  for (const Cell& cell : cells) {
    if (!reads_map(cell.policy)) continue;
    const auto [entry, fresh] = maps.try_emplace({partition_index(cell.region), cell.pool});
    if (fresh) wanted.push_back(&*entry);
  }
  for_each_index(wanted.size(), threads, [&](std::size_t i) {
    auto& [key, scores] = *wanted[i];
    scores = draft_scores(problem, partitions[key.first], key.second);
  });
}

void HeadStudy::Plan::sweep_first(Sweeps& sweeps) {
  std::vector<MapKey> keys;
  std::vector<MapRequest> requests;
  for (const Cell& cell : cells) {
    if (!cell.with_bounds || cell.policy != Policy::draft) continue;
    const MapKey key{partition_index(cell.region), cell.pool};
    if (!deviations.emplace(key, requests.size()).second) continue;
    keys.push_back(key);
    requests.push_back({key.first, &maps.at(key).logits});
  }
  first = sweeps.logits(requests, settings.progress);
  std::vector<PoolingError> errors(keys.size());
  for_each_index(keys.size(), settings.threads, [&](std::size_t i) {
    const auto& [partition, pool] = keys[i];
    errors[i] = pooling_error(problem, partitions[partition], maps.at(keys[i]), pool, first.stats[partition]);
  });
  for (std::size_t i = 0; i < keys.size(); ++i) pooling.emplace(keys[i], std::move(errors[i]));
}

PolicyInput HeadStudy::Plan::policy_input(const Cell& cell) const {
  const std::size_t p = partition_index(cell.region);
  const Reads reads = row_of(cell.policy).reads;
  const bool reads_head = reads == Reads::head || reads == Reads::earlier;
  if (reads == Reads::earlier && settings.earlier == nullptr) {
    throw std::invalid_argument("study: " + to_string(cell.policy) + " wants the head at an earlier step, found none");
  }
  return {.regions = partitions[p].regions(),
          .causal = problem.grid.causal,
          .seed = settings.seed,
          .stream = settings.stream,
          .map = reads == Reads::draft_map ? &maps.at({p, cell.pool}) : nullptr,
          .rule = cell.rule,
          .grid = reads == Reads::grid ? (settings.grid != nullptr ? settings.grid : &problem.grid) : nullptr,
          .problem = reads_head ? &problem : nullptr,
          .partition = reads == Reads::grid || reads_head ? &partitions[p] : nullptr,
          .mass = reads_head ? &first.stats[p].mass : nullptr,
          .earlier_mass = reads == Reads::earlier ? &settings.earlier->stats(cell.region).mass : nullptr,
          .clusters = settings.clusters};
}

std::vector<MaskFamily> HeadStudy::Plan::choose_masks() {
  std::vector<Index> cuts(cells.size());
  std::vector<std::optional<BlockMask>> own_masks(cells.size());  // of policies without a ranking
  for_each_index(cells.size(), settings.threads, [&](std::size_t i) {
    const PolicyInput input = policy_input(cells[i]);
    const PolicyRow& row = row_of(cells[i].policy);
    if (cells[i].released) {
      own_masks[i] = input.causal ? causal_mask(row.released(input)) : row.released(input);
    } else if (row.rank == nullptr) {
      own_masks[i] = row.mask(input, cells[i].sparsity);
    }
    cuts[i] = own_masks[i]   ? own_masks[i]->kept_blocks()
              : cells[i].cut ? *cells[i].cut
                             : cut_of(row, input, cells[i].sparsity);
  });
  std::map<FamilyKey, std::size_t> index;
  std::vector<std::size_t> first_cells;  // [family]
  std::vector<MaskFamily> families;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const FamilyKey key = family_key(cells[i], partition_index(cells[i].region));
    const auto [entry, fresh] = index.emplace(key, families.size());
    if (fresh) {
      first_cells.push_back(i);
      families.push_back({key.partition, {}, {}});
      if (key.remainder == Remainder::pooled) {
        const auto [regions, is_new] = coarse.try_emplace(key.partition);
        if (is_new) regions->second = coarse_regions(problem, partitions[key.partition]);
        families.back().remainder = &regions->second;
      }
    }
    families[entry->second].cuts.push_back(cuts[i]);
    place.emplace_back(entry->second, 0);
  }
  for_each_index(families.size(), settings.threads, [&](std::size_t f) {
    std::vector<Index>& own = families[f].cuts;
    std::sort(own.begin(), own.end());
    own.erase(std::unique(own.begin(), own.end()), own.end());
    const std::size_t i = first_cells[f];
    families[f].ranking =
        own_masks[i] ? kept_first(*own_masks[i]) : ranking_of(row_of(cells[i].policy), policy_input(cells[i]));
  });
  masks.assign(cells.size(), BlockMask(0, false));
  for_each_index(cells.size(), settings.threads, [&](std::size_t i) {
    const MaskFamily& family = families[place[i].first];
    const auto cut = std::lower_bound(family.cuts.begin(), family.cuts.end(), cuts[i]);
    place[i].second = static_cast<std::size_t>(cut - family.cuts.begin());
    masks[i] = BlockMask(family.ranking, cuts[i]);
  });
  return families;
}

HeadStudy::HeadStudy(const Problem& problem, std::vector<Cell> cells, const StudySettings& settings,
                     const std::vector<RegionSize>& extra_regions)
    : plan_(std::make_unique<Plan>(problem, std::move(cells), extra_regions, settings)) {
  const std::unique_ptr<Sweeps> own = settings.sweeps == nullptr ? make_reference_sweeps() : nullptr;
  Sweeps& sweeps = own ? *own : *settings.sweeps;
  std::optional<HalfHead> in_units;
  if (settings.half != nullptr && plan_->rescaled) in_units = to_half(plan_->problem, settings.half->element);
  sweeps.load(plan_->problem, in_units ? &*in_units : settings.half, plan_->partitions, settings.threads);
  plan_->pool_maps(settings.threads);
  plan_->sweep_first(sweeps);
  std::vector<MaskFamily> families = plan_->choose_masks();
  if (families.empty()) return;
  plan_->second = sweeps.masks(std::move(families), settings.progress);
  for (std::size_t p = 0; p < plan_->partitions.size(); ++p) plan_->row_region.push_back(sweeps.row_region(p));
  plan_->longest_value = longest_row(plan_->problem.v);
  plan_->slack = sweeps.slack();
}

HeadStudy::~HeadStudy() = default;

Metrics HeadStudy::metrics(std::size_t i) const {
  const Cell& cell = plan_->cells.at(i);
  const std::size_t p = plan_->partition_index(cell.region);
  const MaskEffect& effect = plan_->second.effects[plan_->place[i].first][plan_->place[i].second];
  const Slack& slack = plan_->slack;
  const MaskMeasurement measured{plan_->problem,
                                 plan_->partitions[p],
                                 plan_->masks[i],
                                 effect,
                                 plan_->second.dense,
                                 mask_error(effect, plan_->longest_value, output_rounding(slack, effect)),
                                 slack,
                                 units()};
  Metrics metrics;
  if (cell.with_bounds && cell.policy == Policy::draft) {
    const PoolingError& pooling = plan_->pooling.at({p, cell.pool});
    append_pooling_metrics(metrics, plan_->problem, pooling,
                           plan_->first.deviations[plan_->deviations.at({p, cell.pool})], slack, units());
    append_threshold_metrics(metrics, measured, plan_->maps.at({p, cell.pool}), pooling, plan_->row_region[p]);
  } else if (cell.with_bounds) {
    append_mask_bound_metrics(metrics, measured);
  }
  append_mask_metrics(metrics, measured);
  if (effect.remainder) append_remainder_metrics(metrics, measured, cell.with_bounds);
  if (plan_->clustered) metrics.emplace_back("kept_area", kept_area(measured.partition, measured.mask));
  return metrics;
}

Metrics HeadStudy::choice_metrics(std::size_t i) const {
  const Cell& cell = plan_->cells.at(i);
  const auto cost = row_of(cell.policy).cost;
  const auto tokens = static_cast<double>(plan_->problem.grid.video());
  const auto head_dim = static_cast<double>(plan_->problem.head_dim());
  const ChoiceCost spent =
      cost == nullptr ? ChoiceCost{} : cost({tokens, head_dim, static_cast<double>(partition(cell.region).regions())});
  // Costs are of whole maps, also where half of them is never looked at.
  const double pairs = plan_->problem.grid.causal ? tokens * (tokens + 1) / 2 : tokens * tokens;
  return {{"choosing_flops_share", spent.flops / (4 * pairs * head_dim)}, {"choosing_bytes", spent.bytes}};
}

PolicyInput HeadStudy::input(const Cell& cell) {
  if (reads_map(cell.policy)) plan_->map(plan_->partition_index(cell.region), cell.pool);
  return plan_->policy_input(cell);
}

Units HeadStudy::units() const { return plan_->rescaled ? plan_->rescaled->units : Units{}; }
const BlockMask& HeadStudy::mask(std::size_t i) const { return plan_->masks.at(i); }
const Partition& HeadStudy::partition(RegionSize region) const {
  return plan_->partitions[plan_->partition_index(region)];
}
const LogitStats& HeadStudy::stats(RegionSize region) const {
  return plan_->first.stats[plan_->partition_index(region)];
}
const DraftMap& HeadStudy::map(RegionSize region, Pool pool) {
  return plan_->map(plan_->partition_index(region), pool);
}

}  // namespace draft
