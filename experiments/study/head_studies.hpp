#pragma once
// One head in all the orders of tokens that its cells want: a study of each.

#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "experiments/study/head.hpp"

namespace draft {

struct LoadedProblem {
  Problem problem;
  std::optional<HalfHead> half = std::nullopt;  // the file's own bits, where a GPU wants them
};

struct LoadedHead : LoadedProblem {
  std::optional<LoadedProblem> earlier = std::nullopt;
};

/// The studies of a head: one for each layout that its cells have, since blocks of different layouts share no logits.
class HeadStudies {
 public:
  /// `measured`: with the second pass; without it there are no metrics, and what policies see is all.
  HeadStudies(const LoadedHead& head, const std::vector<Cell>& cells, const StudySettings& settings, bool measured);

  /// cells[i]'s study, and its number there.
  [[nodiscard]] std::pair<HeadStudy*, std::size_t> of(std::size_t i) const;
  /// The layout that cells[i] has on this head.
  [[nodiscard]] BlockLayout layout(std::size_t i) const { return places_.at(i).first; }

 private:
  struct Kept {
    std::vector<Cell> cells;
    Problem problem;  // in its layout, which the study looks at; empty for regions
    std::optional<Clusters> clusters = std::nullopt;
    std::unique_ptr<HeadStudy> study = nullptr;
    std::unique_ptr<HeadStudy> earlier = nullptr;  // which `study` looks at
  };

  static void study_regions(Kept& kept, const LoadedHead& head, StudySettings settings, bool measured);

  std::vector<std::pair<BlockLayout, std::size_t>> places_;  // [cell]
  std::map<BlockLayout, Kept> studies_;
};

}  // namespace draft
