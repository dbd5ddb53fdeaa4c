#include "experiments/policies/block_layout.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <tuple>

#include "reference/choices.hpp"

namespace draft {
namespace {

constexpr Word<BlockLayout> kBlockLayouts[] = {{BlockLayout::region, "region"},
                                               {BlockLayout::raster, "raster"},
                                               {BlockLayout::frame_last, "frame_last"},
                                               {BlockLayout::cube, "cube"}};
constexpr Index kCubeFrames = 4, kCubeRows = 4, kCubeColumns = 8;  // VSA's 4 x 4 x 4, twice as wide for blocks of 128

}  // namespace

std::string to_string(BlockLayout layout) { return word_of(kBlockLayouts, layout); }

std::vector<Index> places(const Grid& grid, BlockLayout layout) {
  if (layout == BlockLayout::region)
    throw std::invalid_argument("places: wanted a layout without regions, found region");
  std::vector<Index> tokens(static_cast<std::size_t>(grid.video()));
  std::iota(tokens.begin(), tokens.end(), Index{0});
  const auto where = [&](Index token) {
    const Index place = token % grid.frame_tokens();
    return std::tuple{token / grid.frame_tokens(), place / grid.width, place % grid.width};
  };
  if (layout == BlockLayout::frame_last) {
    std::ranges::stable_sort(tokens, {}, [&](Index token) { return token % grid.frame_tokens(); });
  }
  if (layout == BlockLayout::cube) {
    std::ranges::stable_sort(tokens, {}, [&](Index token) {
      const auto [frame, row, column] = where(token);
      return std::tuple{frame / kCubeFrames, row / kCubeRows, column / kCubeColumns};
    });
  }
  return tokens;
}

Grid row_of_tokens(const Grid& grid) { return {.frames = 1, .height = 1, .width = grid.video(), .text = grid.text}; }

Problem in_layout(const Problem& problem, BlockLayout layout) {
  const std::vector<Index> tokens = places(problem.grid, layout);
  return {.grid = row_of_tokens(problem.grid),
          .q = reorder(problem.q, tokens),
          .k = reorder(problem.k, tokens),
          .v = reorder(problem.v, tokens),
          .scale = problem.scale,
          .source = problem.source};
}

}  // namespace draft
