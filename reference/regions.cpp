#include "reference/regions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace draft {
namespace {

std::vector<Index> regular_starts(Index extent, Index step) {
  std::vector<Index> starts;
  for (Index first = 0; first < extent; first += step) starts.push_back(first);
  return starts;
}

void require_starts(const std::vector<Index>& starts, Index extent, const char* axis) {
  const bool ascending = std::adjacent_find(starts.begin(), starts.end(), std::greater_equal<>()) == starts.end();
  if (starts.empty() || starts.front() != 0 || starts.back() >= extent || !ascending) {
    throw std::invalid_argument(fmt::format("partition: {} starts must ascend from 0 and stay below {}", axis, extent));
  }
}

Index end_of(const std::vector<Index>& starts, std::size_t i, Index extent) {
  return i + 1 < starts.size() ? starts[i + 1] : extent;
}

std::vector<Index> merged(std::vector<Index> all) {
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void require_rows(const Matrix& rows, const Grid& grid, const char* what) {
  if (rows.rows() != grid.tokens()) {
    throw std::invalid_argument(
        fmt::format("{}: wanted {} rows (grid {}), found {}", what, grid.tokens(), to_string(grid), rows.rows()));
  }
}

}  // namespace

Partition::Partition(const Grid& grid, RegionSize size)
    : Partition((require_valid(grid), grid), regular_starts(grid.height, std::max<Index>(size.height, 1)),
                regular_starts(grid.width, std::max<Index>(size.width, 1))) {
  if (size.height < 1 || size.width < 1) {
    throw std::invalid_argument(fmt::format("region: both sides must be at least 1, found {}", to_string(size)));
  }
}

Partition::Partition(const Grid& grid, std::vector<Index> row_starts, std::vector<Index> column_starts)
    : grid_(grid), row_starts_(std::move(row_starts)), column_starts_(std::move(column_starts)) {
  require_valid(grid_);
  require_starts(row_starts_, grid_.height, "row");
  require_starts(column_starts_, grid_.width, "column");
  order_.reserve(static_cast<std::size_t>(grid_.video()));
  offsets_.push_back(0);
  for (Index frame = 0; frame < grid_.frames; ++frame) {
    for (std::size_t i = 0; i < row_starts_.size(); ++i) {
      for (std::size_t j = 0; j < column_starts_.size(); ++j) {
        for (Index y = row_starts_[i]; y < end_of(row_starts_, i, grid_.height); ++y) {
          for (Index x = column_starts_[j]; x < end_of(column_starts_, j, grid_.width); ++x) {
            order_.push_back(grid_.token(frame, y, x));
          }
        }
        offsets_.push_back(static_cast<Index>(order_.size()));
      }
    }
  }
}

std::vector<Index> Partition::inverse() const {
  std::vector<Index> position(order_.size());
  for (std::size_t p = 0; p < order_.size(); ++p) position[static_cast<std::size_t>(order_[p])] = static_cast<Index>(p);
  return position;
}

std::vector<Index> Partition::region_of_token() const {
  std::vector<Index> region(order_.size());
  for (Index r = 0; r < regions(); ++r) {
    for (Index p = offset(r); p < offset(r + 1); ++p) region[order_[p]] = r;
  }
  return region;
}

Partition common_refinement(std::span<const Partition> partitions) {
  if (partitions.empty()) throw std::invalid_argument("common refinement: wanted at least one partition, found none");
  std::vector<Index> rows, columns;
  for (const Partition& partition : partitions) {
    if (partition.grid() != partitions.front().grid()) {
      throw std::invalid_argument(fmt::format("common refinement: wanted one grid, found {} and {}",
                                              to_string(partitions.front().grid()), to_string(partition.grid())));
    }
    rows.insert(rows.end(), partition.row_starts().begin(), partition.row_starts().end());
    columns.insert(columns.end(), partition.column_starts().begin(), partition.column_starts().end());
  }
  return Partition(partitions.front().grid(), merged(std::move(rows)), merged(std::move(columns)));
}

std::vector<Index> parents(const Partition& fine, const Partition& coarse) {
  const std::vector<Index> region = coarse.region_of_token();
  std::vector<Index> parent(static_cast<std::size_t>(fine.regions()));
  for (Index r = 0; r < fine.regions(); ++r) {
    parent[r] = region[fine.order()[fine.offset(r)]];
    for (Index p = fine.offset(r); p < fine.offset(r + 1); ++p) {
      if (region[fine.order()[p]] != parent[r]) {
        throw std::invalid_argument("parents: the first partition is no refinement of the second");
      }
    }
  }
  return parent;
}

Matrix reorder(const Matrix& rows, std::span<const Index> order) {
  Matrix out = rows;
  for (std::size_t p = 0; p < order.size(); ++p) out.row(static_cast<Index>(p)) = rows.row(order[p]);
  return out;
}

Matrix reorder(const Matrix& rows, const Partition& partition) {
  require_rows(rows, partition.grid(), "reorder");
  return reorder(rows, partition.order());
}

Matrix restore(const Matrix& rows, const Partition& partition) {
  require_rows(rows, partition.grid(), "restore");
  Matrix out(rows.rows(), rows.cols());
  const auto order = partition.order();
  for (std::size_t p = 0; p < order.size(); ++p) out.row(order[p]) = rows.row(static_cast<Index>(p));
  out.bottomRows(partition.grid().text) = rows.bottomRows(partition.grid().text);
  return out;
}

Matrix pool_regions(const Matrix& rows, const Partition& partition, Pool pool) {
  require_rows(rows, partition.grid(), "pooling");
  Matrix pooled(partition.regions(), rows.cols());
  for (Index r = 0; r < partition.regions(); ++r) {
    auto out = pooled.row(r);
    out = rows.row(partition.order()[partition.offset(r)]);
    for (Index p = partition.offset(r) + 1; p < partition.offset(r + 1); ++p) {
      const auto row = rows.row(partition.order()[p]);
      if (pool == Pool::average) {
        out += row;
      } else {
        out = out.cwiseMax(row);
      }
    }
    if (pool == Pool::average) out /= static_cast<double>(partition.size(r));
  }
  return pooled;
}

Vector region_radii(const Matrix& rows, const Partition& partition, const Matrix& centres) {
  require_rows(rows, partition.grid(), "region radii");
  Vector radii = Vector::Zero(partition.regions());
  for (Index r = 0; r < partition.regions(); ++r) {
    for (Index p = partition.offset(r); p < partition.offset(r + 1); ++p) {
      radii[r] = std::max(radii[r], (rows.row(partition.order()[p]) - centres.row(r)).norm());
    }
  }
  return radii;
}

}  // namespace draft
