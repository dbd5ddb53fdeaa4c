#include "harness/ranks/hand_out.hpp"

#include <algorithm>
#include <functional>
#include <numeric>

namespace draft {

HandOut::HandOut(const std::vector<double>& costs, int ranks)
    : order_(costs.size()), held_(static_cast<std::size_t>(ranks), 0), unfinished_(costs.size()) {
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  if (ranks == 1) return;
  std::ranges::stable_sort(order_, std::ranges::greater{}, [&](std::size_t unit) { return costs[unit]; });
}

std::optional<std::size_t> HandOut::take(int rank) {
  if (next_ == order_.size()) return std::nullopt;
  std::size_t& held = held_[static_cast<std::size_t>(rank)];
  if (held >= std::max<std::size_t>(1, unfinished_ / held_.size())) return std::nullopt;
  ++held;
  return order_[next_++];
}

void HandOut::delivered(int rank) {
  --held_[static_cast<std::size_t>(rank)];
  --unfinished_;
}

void HandOut::gone(int rank) { held_[static_cast<std::size_t>(rank)] = 0; }

bool HandOut::others_hold() const {
  return std::any_of(held_.begin() + 1, held_.end(), [](std::size_t held) { return held > 0; });
}

}  // namespace draft
