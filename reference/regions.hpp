#pragma once
// The partition of a grid's video tokens into regions, the reordering that makes each region
// contiguous (Algorithms 1 and 2), and pooling over regions (Definition 3.2, eq. 2).

#include <span>
#include <string>
#include <vector>

#include "reference/choices.hpp"
#include "reference/problem.hpp"

namespace draft {

/// Disjoint rectangular regions that cover every video token; text tokens belong to none.
/// Regions are numbered in (frame, region row, region column) order; a region's tokens are row-major.
/// Regions at the lower and right edges are smaller where the size does not divide the grid.
class Partition {
 public:
  /// Cuts every `size.height` rows and every `size.width` columns. Throws on an invalid grid or size.
  Partition(const Grid& grid, RegionSize size);

  /// Cuts at the given first rows and first columns of the regions (both ascending, starting at 0).
  Partition(const Grid& grid, std::vector<Index> row_starts, std::vector<Index> column_starts);

  [[nodiscard]] const Grid& grid() const { return grid_; }
  [[nodiscard]] Index regions() const { return static_cast<Index>(offsets_.size()) - 1; }
  /// How many of the first columns of a block row a mask is free to drop and the theorems speak of: all; of a causal
  /// grid those before its own, since later blocks are not seen and the diagonal one is always kept, as text is.
  [[nodiscard]] Index free_columns(Index row) const { return grid_.causal ? row : regions(); }
  /// |R_i| in tokens.
  [[nodiscard]] Index size(Index region) const { return offsets_[region + 1] - offsets_[region]; }
  /// Position of region i's first token in the reordered sequence; offset(regions()) = video tokens.
  [[nodiscard]] Index offset(Index region) const { return offsets_[region]; }
  /// Algorithm 1: reordered position -> original token, [video].
  [[nodiscard]] std::span<const Index> order() const { return order_; }
  /// Algorithm 2: original token -> reordered position, [video].
  [[nodiscard]] std::vector<Index> inverse() const;
  /// Original token -> its region, [video].
  [[nodiscard]] std::vector<Index> region_of_token() const;

  [[nodiscard]] const std::vector<Index>& row_starts() const { return row_starts_; }
  [[nodiscard]] const std::vector<Index>& column_starts() const { return column_starts_; }
  [[nodiscard]] Index regions_per_frame() const {
    return static_cast<Index>(row_starts_.size() * column_starts_.size());
  }

 private:
  Grid grid_;
  std::vector<Index> row_starts_, column_starts_;
  std::vector<Index> offsets_;
  std::vector<Index> order_;
};

/// The coarsest partition whose every region lies inside one region of each given partition.
/// All must be of one grid; at least one is needed.
Partition common_refinement(std::span<const Partition> partitions);

/// For each region of `fine`, the region of `coarse` that holds it. Throws if `fine` is no refinement.
std::vector<Index> parents(const Partition& fine, const Partition& coarse);

/// Rows [tokens, d]: row p of the result is row order[p]; rows behind the order, text, stay where they are.
Matrix reorder(const Matrix& rows, std::span<const Index> order);
/// Rows [tokens, d] in original order -> video rows in region order, then the text rows, unchanged.
Matrix reorder(const Matrix& rows, const Partition& partition);
/// The inverse of reorder().
Matrix restore(const Matrix& rows, const Partition& partition);

/// Pools rows [tokens, d] (original order, text ignored) over each region, real tokens only: the mean
/// (eq. 2) or the maximum of each channel. Result [regions, d].
Matrix pool_regions(const Matrix& rows, const Partition& partition, Pool pool);

/// max over u in R_i of ||rows_u - centre_i||_2, the radius of each region about its pooled row, [regions].
Vector region_radii(const Matrix& rows, const Partition& partition, const Matrix& centres);

}  // namespace draft
