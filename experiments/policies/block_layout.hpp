#pragma once
// How a video is cut into blocks: the order in which its tokens are taken. Blocks of all but `region` and `clusters`
// are 128 tokens that follow one another, the last one perhaps fewer.

#include <string>
#include <vector>

#include "reference/regions.hpp"

namespace draft {

enum class BlockLayout {
  region,      // (frame, region row, region column), a region's tokens row-major: --region's blocks
  raster,      // (frame, row, column), as a dump has them
  frame_last,  // (row, column, frame): what stands in one place at all times follows one another
  cube,        // cubes of 4 frames x 4 rows x 8 columns in (frame, row, column) order, each row-major
  by_head,     // raster or frame_last, as the policy finds for a head
  clusters,    // queries and keys each grouped by themselves, as the policy finds for a head; blocks of any size
};

std::string to_string(BlockLayout layout);

/// The blocks of all layouts but `region`, as a region of a grid that is one row; of `clusters` nothing but a name.
inline constexpr RegionSize kRowOfTokens{1, 128};

/// Place -> token of the video, [video]; of layouts that are the same for every head. Not for `region`, whose order a
/// Partition has.
std::vector<Index> places(const Grid& grid, BlockLayout layout);

/// The head with its video tokens in this order, on a grid of one row; text tokens stay behind them.
Problem in_layout(const Problem& problem, BlockLayout layout);
/// That grid.
Grid row_of_tokens(const Grid& grid);

/// Queries in one order and keys in another, each cut into clusters. A query's output is the same in whatever order its
/// keys are, so that the two orders are free.
struct Clusters {
  std::vector<Index> queries, keys;             // place -> token of the video, [video]; values go with their keys
  std::vector<Index> query_starts, key_starts;  // the first place of each cluster, rising from 0
};

/// The head in those orders, on a grid of one row; text tokens stay behind.
Problem in_clusters(const Problem& problem, const Clusters& clusters);
/// The pieces that both kinds of cuts leave of a row of tokens: one partition, in which every cluster is a number of
/// whole pieces. A mask over pairs of clusters is a mask over pairs of pieces.
Partition pieces_of(const Clusters& clusters, const Grid& grid);
/// The cluster that each piece is in, by its first places.
std::vector<Index> cluster_of_pieces(const Partition& pieces, const std::vector<Index>& starts);

}  // namespace draft
