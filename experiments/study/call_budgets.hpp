#pragma once
// One budget over all heads of a call: how many blocks each head keeps.

#include "experiments/study/head.hpp"

namespace draft {

/// Of as many heads as there are matrices of scores, how many blocks each has among the `kept` largest of all. Of equal
/// scores the earlier head's come first, and there the lower index.
std::vector<Index> cuts_of_scores(const std::vector<Matrix>& scores, Index kept);

/// Collects what the cells' policies find in each head of a call, and gives each head its cuts.
class CallBudgets {
 public:
  /// Cells of policies that have `scores` or `heads`.
  explicit CallBudgets(const std::vector<Cell>& cells);

  /// What cells[i]'s policy sees of the next head. Cells that differ in their sparsity alone
  /// are found together, from what the first of them sees.
  void add(std::size_t i, const PolicyInput& input);
  /// How many blocks of cells[i]'s ranking the head keeps, after add() of all heads.
  [[nodiscard]] Index cut(std::size_t i, Index head);

 private:
  struct Found {
    Cell cell;
    std::size_t like;  // the first cell that differs in its sparsity alone
    Index regions = 0;
    std::vector<Matrix> scores{};  // [head], of the first cell like it
    std::vector<double> worths{};  // [head]
    std::vector<Index> cuts{};     // [head], once asked for
  };
  std::vector<Found> found_;  // [cell]
};

}  // namespace draft
