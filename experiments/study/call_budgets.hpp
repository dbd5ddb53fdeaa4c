#pragma once
// One budget over all heads of a call: how many blocks each head keeps.

#include <functional>
#include <utility>
#include <vector>

#include "experiments/study/head.hpp"

namespace draft {

/// Of as many heads as there are matrices of scores, how many blocks each has among the `kept` largest of all. Of equal
/// scores the earlier head's come first, and there the lower index. Causal heads keep their diagonals first, even if
/// these are more than `kept`, and then the largest scores below them.
std::vector<Index> cuts_of_scores(const std::vector<Matrix>& scores, Index kept, bool causal);

/// What policies find in one head of a call; an entry for each group of cells that differ in their sparsity alone.
struct CallLook {
  Index regions = 0;
  bool causal = false;
  Matrix scores{};               // of policies that have `scores`
  std::vector<double> worths{};  // of those that have `heads`, by sparsity
};

/// Collects what the cells' policies find in each head of a call, and gives each head its cuts.
class CallBudgets {
 public:
  /// Cells of policies that have `scores` or `heads`.
  explicit CallBudgets(const std::vector<Cell>& cells);

  /// `input(i)`: what cells[i]'s policy sees of a head. May be called from any thread.
  [[nodiscard]] std::vector<CallLook> look(const std::function<PolicyInput(std::size_t)>& input) const;
  /// The next head's.
  void add(std::vector<CallLook> look);
  /// How many blocks of cells[i]'s ranking the head keeps, after add() of all heads.
  [[nodiscard]] Index cut(std::size_t i, Index head);

 private:
  struct Alike {
    Cell cell;  // the first of them
    std::size_t first;
    std::vector<double> sparsities{};
    std::vector<CallLook> heads{};
    std::vector<std::vector<Index>> cuts{};  // [sparsity][head], once asked for
  };
  void find_cuts(Alike& alike) const;

  std::vector<Alike> groups_;
  std::vector<std::pair<std::size_t, std::size_t>> places_;  // [cell] -> group, sparsity
};

}  // namespace draft
