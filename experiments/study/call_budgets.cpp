#include "experiments/study/call_budgets.hpp"

#include <algorithm>
#include <numeric>

namespace draft {

std::vector<Index> cuts_of_scores(const std::vector<Matrix>& scores, Index kept) {
  struct Block {
    double score;
    std::size_t head;
  };
  std::vector<Block> blocks;
  for (std::size_t head = 0; head < scores.size(); ++head) {
    for (const double score : scores[head].reshaped<Eigen::RowMajor>()) blocks.push_back({score, head});
  }
  std::ranges::stable_sort(blocks, std::ranges::greater{}, &Block::score);
  std::vector<Index> cuts(scores.size(), 0);
  const auto count = std::min(blocks.size(), static_cast<std::size_t>(kept));
  for (std::size_t i = 0; i < count; ++i) ++cuts[blocks[i].head];
  return cuts;
}

CallBudgets::CallBudgets(const std::vector<Cell>& cells) {
  for (const Cell& cell : cells) {
    Cell any = cell;
    const auto same = std::ranges::find_if(found_, [&](const Found& found) {
      any.sparsity = found.cell.sparsity;
      return found.cell == any;
    });
    found_.push_back({cell, static_cast<std::size_t>(same - found_.begin())});
  }
}

void CallBudgets::add(std::size_t i, const PolicyInput& input) {
  Found& own = found_.at(i);
  own.regions = input.regions;
  if (own.like != i) return;
  const PolicyRow& row = row_of(own.cell.policy);
  if (row.heads == nullptr) {
    own.scores.push_back(row.scores(input));
    return;
  }
  std::vector<Found*> alike;
  std::vector<double> sparsities;
  for (Found& other : found_) {
    if (other.like != i) continue;
    alike.push_back(&other);
    sparsities.push_back(other.cell.sparsity);
  }
  const std::vector<double> worths = row.heads->worths(input, sparsities);
  for (std::size_t c = 0; c < alike.size(); ++c) alike[c]->worths.push_back(worths[c]);
}

Index CallBudgets::cut(std::size_t i, Index head) {
  Found& own = found_.at(i);
  if (own.cuts.empty()) {
    const PolicyRow& row = row_of(own.cell.policy);
    const std::vector<Matrix>& scores = found_[own.like].scores;
    own.cuts = row.heads != nullptr
                   ? row.heads->cuts(own.worths, own.regions, own.cell.sparsity)
                   : cuts_of_scores(scores, static_cast<Index>(scores.size()) *
                                                kept_count(own.cell.sparsity, own.regions * own.regions));
  }
  return own.cuts.at(static_cast<std::size_t>(head));
}

}  // namespace draft
