#include "experiments/policies/block_layout.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <tuple>

#include "reference/choices.hpp"

namespace draft {
namespace {

constexpr Word<BlockLayout> kBlockLayouts[] = {
    {BlockLayout::region, "region"}, {BlockLayout::raster, "raster"},   {BlockLayout::frame_last, "frame_last"},
    {BlockLayout::cube, "cube"},     {BlockLayout::by_head, "by_head"}, {BlockLayout::clusters, "clusters"}};
constexpr Index kCubeFrames = 4, kCubeRows = 4, kCubeColumns = 8;  // VSA's 4 x 4 x 4, twice as wide for blocks of 128

Problem in_orders(const Problem& problem, const std::vector<Index>& queries, const std::vector<Index>& keys) {
  return {.grid = row_of_tokens(problem.grid),
          .q = reorder(problem.q, queries),
          .k = reorder(problem.k, keys),
          .v = reorder(problem.v, keys),
          .scale = problem.scale,
          .source = problem.source};
}

}  // namespace

std::string to_string(BlockLayout layout) { return word_of(kBlockLayouts, layout); }

std::vector<Index> places(const Grid& grid, BlockLayout layout) {
  if (layout == BlockLayout::region || layout == BlockLayout::by_head || layout == BlockLayout::clusters) {
    throw std::invalid_argument("places: wanted raster, frame_last or cube, found " + to_string(layout));
  }
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

Grid row_of_tokens(const Grid& grid) {
  return {.frames = 1, .height = 1, .width = grid.video(), .text = grid.text, .causal = grid.causal};
}

Problem in_layout(const Problem& problem, BlockLayout layout) {
  const std::vector<Index> tokens = places(problem.grid, layout);
  return in_orders(problem, tokens, tokens);
}

Problem in_clusters(const Problem& problem, const Clusters& clusters) {
  return in_orders(problem, clusters.queries, clusters.keys);
}

Partition pieces_of(const Clusters& clusters, const Grid& grid) {
  std::vector<Index> starts;
  std::ranges::set_union(clusters.query_starts, clusters.key_starts, std::back_inserter(starts));
  return {row_of_tokens(grid), {0}, std::move(starts)};
}

std::vector<Index> cluster_of_pieces(const Partition& pieces, const std::vector<Index>& starts) {
  std::vector<Index> owner;
  for (Index piece = 0; piece < pieces.regions(); ++piece) {
    owner.push_back(std::ranges::upper_bound(starts, pieces.offset(piece)) - starts.begin() - 1);
  }
  return owner;
}

}  // namespace draft
