#include "experiments/head_study.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <stdexcept>

#include "experiments/study_metrics.hpp"

namespace draft {
namespace {

/// The order of the blocks that a cell's mask cuts; `softmax` and `released` share theirs.
struct FamilyKey {
  std::size_t partition;
  Policy policy;
  Pool pool;
  Rule rule;
  auto operator<=>(const FamilyKey&) const = default;
};

FamilyKey family_key(const Cell& cell, std::size_t partition) {
  if (cell.policy != Policy::draft) return {partition, cell.policy, Pool::average, Rule::logits};
  return {partition, cell.policy, cell.pool, cell.rule == Rule::released ? Rule::softmax : cell.rule};
}

}  // namespace

std::string to_string(Policy policy) {
  switch (policy) {
    case Policy::draft: return "draft";
    case Policy::oracle: return "oracle";
    case Policy::random: return "random";
  }
  throw std::invalid_argument("policy: not one of draft, oracle, random");
}

double metric(const Metrics& metrics, const std::string& name) {
  for (const auto& [key, value] : metrics) {
    if (key == name) return value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

struct HeadStudy::Plan {
  Plan(const Problem& the_problem, std::vector<Cell> the_cells, const std::vector<RegionSize>& extra_regions);

  void sweep_first(const StudySettings& settings);
  void choose_masks(const StudySettings& settings);
  [[nodiscard]] std::size_t partition_index(RegionSize region) const;
  const DraftMap& map(std::size_t partition, Pool pool);

  const Problem& problem;
  std::vector<Cell> cells;
  std::vector<RegionSize> sizes;
  std::vector<Partition> partitions;
  std::unique_ptr<Stripes> stripes;
  std::vector<std::vector<Index>> parent;      // [partition][atom] -> region
  std::vector<std::vector<Index>> row_region;  // [partition][row in region order of the atoms] -> region
  std::map<std::pair<std::size_t, Pool>, DraftMap> maps;
  std::map<std::pair<std::size_t, Pool>, PoolingError> pooling;
  std::map<std::pair<std::size_t, Pool>, std::size_t> deviations;  // index into fine.deviations
  LogitStats fine;
  std::vector<LogitStats> stats;  // [partition]
  std::vector<MaskFamily> families;
  std::vector<std::pair<std::size_t, std::size_t>> place;  // [cell] -> family, mask
  std::vector<BlockMask> masks;                            // [cell]
  MaskSweep sweep;
};

HeadStudy::Plan::Plan(const Problem& the_problem, std::vector<Cell> the_cells,
                      const std::vector<RegionSize>& extra_regions)
    : problem(the_problem), cells(std::move(the_cells)) {
  require_valid(problem);
  const auto want = [&](RegionSize size) {
    if (std::find(sizes.begin(), sizes.end(), size) == sizes.end()) sizes.push_back(size);
  };
  for (const Cell& cell : cells) want(cell.region);
  for (const RegionSize size : extra_regions) want(size);
  if (sizes.empty()) throw std::invalid_argument("study: wanted at least one cell or region, found none");
  for (const RegionSize size : sizes) partitions.emplace_back(problem.grid, size);

  const Partition atoms = common_refinement(partitions);
  stripes = std::make_unique<Stripes>(problem, atoms);
  for (const Partition& partition : partitions) {
    parent.push_back(parents(atoms, partition));
    std::vector<Index>& region = row_region.emplace_back();
    for (Index atom = 0; atom < atoms.regions(); ++atom) {
      region.insert(region.end(), static_cast<std::size_t>(atoms.size(atom)), parent.back()[atom]);
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
  return maps.emplace(std::pair{partition, pool}, draft_scores(problem, partitions[partition], pool)).first->second;
}

void HeadStudy::Plan::sweep_first(const StudySettings& settings) {
  std::vector<DeviationRequest> requests;
  for (const Cell& cell : cells) {
    if (!cell.with_bounds || cell.policy != Policy::draft) continue;
    const std::pair key{partition_index(cell.region), cell.pool};
    if (!deviations.emplace(key, requests.size()).second) continue;
    requests.push_back({map(key.first, key.second).logits, parent[key.first]});
  }
  fine = sweep_logits(*stripes, requests, settings.threads, settings.progress);
  for (std::size_t p = 0; p < partitions.size(); ++p) {
    stats.push_back(coarsened(fine, stripes->atoms, parent[p], partitions[p].regions()));
  }
  for (const auto& [key, index] : deviations) {
    pooling.emplace(key, pooling_error(problem, partitions[key.first], maps.at(key), key.second, stats[key.first]));
  }
}

void HeadStudy::Plan::choose_masks(const StudySettings& settings) {
  std::map<FamilyKey, std::size_t> index;
  std::vector<Index> cuts;  // [cell]
  for (const Cell& cell : cells) {
    const std::size_t p = partition_index(cell.region);
    const Index blocks = partitions[p].regions() * partitions[p].regions();
    const bool by_draft = cell.policy == Policy::draft;
    cuts.push_back(by_draft ? rule_cut(map(p, cell.pool), cell.rule, cell.sparsity) : kept_count(cell.sparsity, blocks));
    const FamilyKey key = family_key(cell, p);
    const auto [entry, fresh] = index.emplace(key, families.size());
    if (fresh) {
      Ranking ranking = by_draft                          ? rank_by_rule(map(p, key.pool), key.rule)
                        : cell.policy == Policy::oracle ? rank_blocks(stats[p].mass, false)
                                                        : random_ranking(partitions[p].regions(), settings.seed,
                                                                         settings.stream);
      families.push_back({partitions[p].regions(), parent[p], std::move(ranking), {}});
    }
    families[entry->second].cuts.push_back(cuts.back());
    place.emplace_back(entry->second, 0);
  }
  for (MaskFamily& family : families) {
    std::sort(family.cuts.begin(), family.cuts.end());
    family.cuts.erase(std::unique(family.cuts.begin(), family.cuts.end()), family.cuts.end());
  }
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const MaskFamily& family = families[place[i].first];
    const auto cut = std::lower_bound(family.cuts.begin(), family.cuts.end(), cuts[i]);
    place[i].second = static_cast<std::size_t>(cut - family.cuts.begin());
    masks.emplace_back(family.ranking, cuts[i]);
  }
}

HeadStudy::HeadStudy(const Problem& problem, std::vector<Cell> cells, const StudySettings& settings,
                     const std::vector<RegionSize>& extra_regions)
    : plan_(std::make_unique<Plan>(problem, std::move(cells), extra_regions)) {
  plan_->sweep_first(settings);
  plan_->choose_masks(settings);
  if (!plan_->families.empty()) {
    plan_->sweep = sweep_masks(*plan_->stripes, plan_->fine.lse, plan_->families, settings.threads, settings.progress);
  }
}

HeadStudy::~HeadStudy() = default;

Metrics HeadStudy::metrics(std::size_t i) const {
  const Cell& cell = plan_->cells.at(i);
  const std::size_t p = plan_->partition_index(cell.region);
  const MaskEffect& effect = plan_->sweep.effects[plan_->place[i].first][plan_->place[i].second];
  const MaskMeasurement measured{plan_->problem, plan_->partitions[p], plan_->masks[i], effect, plan_->sweep.dense,
                                 mask_error(plan_->problem, effect)};
  Metrics metrics;
  if (cell.with_bounds && cell.policy == Policy::draft) {
    const PoolingError& pooling = plan_->pooling.at({p, cell.pool});
    append_pooling_metrics(metrics, plan_->problem, pooling, plan_->fine.deviations[plan_->deviations.at({p, cell.pool})]);
    append_threshold_metrics(metrics, measured, plan_->maps.at({p, cell.pool}), pooling, plan_->row_region[p]);
  } else if (cell.with_bounds) {
    append_mask_bound_metrics(metrics, measured);
  }
  append_mask_metrics(metrics, measured);
  return metrics;
}

const BlockMask& HeadStudy::mask(std::size_t i) const { return plan_->masks.at(i); }
const Partition& HeadStudy::partition(RegionSize region) const {
  return plan_->partitions[plan_->partition_index(region)];
}
const LogitStats& HeadStudy::stats(RegionSize region) const { return plan_->stats[plan_->partition_index(region)]; }
const DraftMap& HeadStudy::map(RegionSize region, Pool pool) { return plan_->map(plan_->partition_index(region), pool); }

}  // namespace draft
