#include "experiments/study/head_studies.hpp"

namespace draft {
namespace {

std::unique_ptr<HeadStudy> study_of(const Problem& problem, const std::vector<Cell>& cells,
                                    const StudySettings& settings, bool measured) {
  std::vector<RegionSize> regions;
  for (const Cell& cell : cells) regions.push_back(cell.region);
  return std::make_unique<HeadStudy>(problem, measured ? cells : std::vector<Cell>{}, settings, regions);
}

PolicyInput as_dumped(const Problem& problem, const StudySettings& settings) {
  return {.seed = settings.seed, .stream = settings.stream, .problem = &problem};
}

BlockLayout layout_of(const Problem& problem, const Cell& cell, const StudySettings& settings) {
  const PolicyRow& row = row_of(cell.policy);
  if (row.layout != BlockLayout::by_head) return row.layout;
  return row.choose_layout(as_dumped(problem, settings), cell.sparsity);
}

}  // namespace

HeadStudies::HeadStudies(const LoadedHead& head, const std::vector<Cell>& cells, const StudySettings& settings,
                         bool measured) {
  for (const Cell& cell : cells) {
    const BlockLayout layout = layout_of(head.problem, cell, settings);
    std::vector<Cell>& own = studies_[layout].cells;
    places_.emplace_back(layout, own.size());
    own.push_back(cell);
  }
  for (auto& [layout, kept] : studies_) {
    if (layout == BlockLayout::region) {
      study_regions(kept, head, settings, measured);
      continue;
    }
    StudySettings here = settings;
    here.grid = &head.problem.grid;
    if (layout == BlockLayout::clusters) {
      kept.clusters = row_of(kept.cells.front().policy).find_clusters(as_dumped(head.problem, settings));
      kept.problem = in_clusters(head.problem, *kept.clusters);
      here.clusters = &*kept.clusters;
    } else {
      kept.problem = in_layout(head.problem, layout);
    }
    std::optional<HalfHead> half;
    if (head.half) half = to_half(kept.problem, head.half->element);
    here.half = half ? &*half : nullptr;
    kept.study = study_of(kept.problem, kept.cells, here, measured);
  }
}

std::pair<HeadStudy*, std::size_t> HeadStudies::of(std::size_t i) const {
  const auto& [layout, number] = places_.at(i);
  return {studies_.at(layout).study.get(), number};
}

void HeadStudies::study_regions(Kept& kept, const LoadedHead& head, StudySettings settings, bool measured) {
  if (head.earlier) {
    StudySettings of_earlier = settings;
    of_earlier.progress = {};
    of_earlier.half = head.earlier->half ? &*head.earlier->half : nullptr;
    kept.earlier = study_of(head.earlier->problem, kept.cells, of_earlier, false);
    settings.earlier = kept.earlier.get();
  }
  kept.study = study_of(head.problem, kept.cells, settings, measured);
}

}  // namespace draft
