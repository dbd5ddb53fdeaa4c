#pragma once
// For tests only: heads, their partitions and the tolerance of both sweeps.

#include "reference/naive.hpp"

namespace draft::naive {

// Every quantity that the sweeps give is a sum of at most 1e5 terms of order one; rounding is far under this.
inline constexpr double kSweepTolerance = 1e-11;

#define EXPECT_CLOSE(found, wanted) \
  EXPECT_LE(std::abs((found) - (wanted)), naive::kSweepTolerance * (1.0 + std::abs(wanted)))

struct SweepCase {
  Grid grid;
  std::vector<RegionSize> regions;
  double spread;
};

/// A head, its partitions, and what the sweeps want of them.
struct PartitionedHead {
  PartitionedHead(Problem head, const std::vector<RegionSize>& regions) : problem(std::move(head)) {
    for (const RegionSize size : regions) partitions.emplace_back(problem.grid, size);
    atoms.emplace_back(common_refinement(partitions));
    for (const Partition& partition : partitions) parent.push_back(parents(atoms[0], partition));
  }
  PartitionedHead(const SweepCase& c, unsigned seed)
      : PartitionedHead(random_problem(c.grid, 8, c.spread, seed), c.regions) {}

  Problem problem;
  std::vector<Partition> partitions, atoms;  // `atoms` is one partition
  std::vector<std::vector<Index>> parent;
};

}  // namespace draft::naive
