#pragma once
// Which unit of work goes to which rank.

#include <cstddef>
#include <optional>
#include <vector>

namespace draft {

/// Hands out units, those of the highest cost first, equal ones in their order. One rank alone gets all in their order.
class HandOut {
 public:
  HandOut(const std::vector<double>& costs, int ranks);

  /// A unit for the rank, which holds it until delivered(). A rank holds at most its share of the units that are not
  /// finished, rounded down, but one at least: towards the end nobody has a second unit while others have nothing to
  /// do. None: the rank holds its share; or, where it holds none, nothing is left.
  std::optional<std::size_t> take(int rank);
  /// The rank has finished one of the units that it holds.
  void delivered(int rank);
  /// The rank is gone, and what it held will not be finished.
  void gone(int rank);
  /// Nothing is handed out any more.
  void stop() { next_ = order_.size(); }

  [[nodiscard]] bool finished() const { return unfinished_ == 0; }
  /// Whether ranks but the first hold anything.
  [[nodiscard]] bool others_hold() const;

 private:
  std::vector<std::size_t> order_;
  std::vector<std::size_t> held_;  // [rank]
  std::size_t next_ = 0, unfinished_;
};

}  // namespace draft
