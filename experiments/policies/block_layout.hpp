#pragma once
// How a video is cut into blocks: the order in which its tokens are taken. Blocks of all but `region` are 128 tokens
// that follow one another, the last one perhaps fewer.

#include <string>
#include <vector>

#include "reference/regions.hpp"

namespace draft {

enum class BlockLayout {
  region,      // (frame, region row, region column), a region's tokens row-major: --region's blocks
  raster,      // (frame, row, column), as a dump has them
  frame_last,  // (row, column, frame): what stands in one place at all times follows one another
  cube,        // cubes of 4 frames x 4 rows x 8 columns in (frame, row, column) order, each row-major
};

std::string to_string(BlockLayout layout);

/// The blocks of all layouts but `region`, as a region of a grid that is one row.
inline constexpr RegionSize kRowOfTokens{1, 128};

/// Place -> token of the video, [video]; not for `region`, whose order a Partition has.
std::vector<Index> places(const Grid& grid, BlockLayout layout);

/// The head with its video tokens in this order, on a grid of one row; text tokens stay behind them.
Problem in_layout(const Problem& problem, BlockLayout layout);
/// That grid.
Grid row_of_tokens(const Grid& grid);

}  // namespace draft
