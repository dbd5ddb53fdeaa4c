#include "experiments/study/call_budgets.hpp"

#include <algorithm>

namespace draft {

std::vector<Index> cuts_of_scores(const std::vector<Matrix>& scores, Index kept, bool causal) {
  struct Block {
    double score;
    std::size_t head;
  };
  std::vector<Block> blocks;
  std::vector<Index> cuts;
  for (std::size_t head = 0; head < scores.size(); ++head) {
    const Matrix& own = scores[head];
    for (Index row = 0; row < own.rows(); ++row) {
      for (Index column = 0; column < (causal ? row : own.cols()); ++column) blocks.push_back({own(row, column), head});
    }
    cuts.push_back(causal ? own.rows() : 0);
    kept -= cuts.back();
  }
  std::ranges::stable_sort(blocks, std::ranges::greater{}, &Block::score);
  const auto count = std::min(blocks.size(), static_cast<std::size_t>(std::max<Index>(kept, 0)));
  for (std::size_t i = 0; i < count; ++i) ++cuts[blocks[i].head];
  return cuts;
}

CallBudgets::CallBudgets(const std::vector<Cell>& cells) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    Cell any = cells[i];
    const auto same = std::ranges::find_if(groups_, [&](const Alike& alike) {
      any.sparsity = alike.cell.sparsity;
      return alike.cell == any;
    });
    const auto group = static_cast<std::size_t>(same - groups_.begin());
    if (same == groups_.end()) groups_.push_back({.cell = cells[i], .first = i});
    places_.emplace_back(group, groups_[group].sparsities.size());
    groups_[group].sparsities.push_back(cells[i].sparsity);
  }
}

std::vector<CallLook> CallBudgets::look(const std::function<PolicyInput(std::size_t)>& input) const {
  std::vector<CallLook> found;
  for (const Alike& alike : groups_) {
    const PolicyInput seen = input(alike.first);
    const PolicyRow& row = row_of(alike.cell.policy);
    CallLook& own = found.emplace_back(CallLook{.regions = seen.regions, .causal = seen.causal});
    if (row.heads != nullptr) {
      own.worths = row.heads->worths(seen, alike.sparsities);
    } else {
      own.scores = row.scores(seen);
    }
  }
  return found;
}

void CallBudgets::add(std::vector<CallLook> look) {
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    groups_[group].heads.push_back(std::move(look.at(group)));
  }
}

void CallBudgets::find_cuts(Alike& alike) const {
  const PolicyRow& row = row_of(alike.cell.policy);
  const Index regions = alike.heads.at(0).regions;
  const bool causal = alike.heads.at(0).causal;
  std::vector<Matrix> scores;
  for (CallLook& head : alike.heads) scores.push_back(std::move(head.scores));
  for (std::size_t s = 0; s < alike.sparsities.size(); ++s) {
    const double sparsity = alike.sparsities[s];
    if (row.heads == nullptr) {
      const Index all = static_cast<Index>(scores.size()) * kept_count(sparsity, block_count(regions, causal));
      alike.cuts.push_back(cuts_of_scores(scores, all, causal));
      continue;
    }
    std::vector<double> worths;
    for (const CallLook& head : alike.heads) worths.push_back(head.worths.at(s));
    alike.cuts.push_back(row.heads->cuts(worths, regions, causal, sparsity));
  }
}

Index CallBudgets::cut(std::size_t i, Index head) {
  const auto [group, sparsity] = places_.at(i);
  Alike& alike = groups_[group];
  if (alike.cuts.empty()) find_cuts(alike);
  return alike.cuts[sparsity].at(static_cast<std::size_t>(head));
}

}  // namespace draft
