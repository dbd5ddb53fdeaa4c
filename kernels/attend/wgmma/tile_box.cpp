#include "kernels/attend/wgmma/tile_box.hpp"

namespace draft::gpu {

namespace {

constexpr std::array<std::uint32_t, 5> kRowsBox{kSlabChannels, kTileRows, 1, 1, 1};

}  // namespace

MapShape pooled_shape(const Layout& layout) {
  const auto dim = static_cast<std::uint64_t>(layout.head_dim), regions = static_cast<std::uint64_t>(layout.regions());
  return {0, {dim, regions, 1, 1, static_cast<std::uint64_t>(layout.heads)}, {dim, dim, dim, regions * dim}, kRowsBox};
}

MapShape TileGrid::shape(int map, const Strides& strides) const {
  const auto dim = static_cast<std::uint64_t>(layout_.head_dim), heads = static_cast<std::uint64_t>(layout_.heads);
  const auto tokens = static_cast<std::uint64_t>(layout_.tokens());
  const auto head = static_cast<std::uint64_t>(strides.head), token = static_cast<std::uint64_t>(strides.token);
  if (!region_order_ && map == 0) {
    const auto width = static_cast<std::uint64_t>(layout_.width), height = static_cast<std::uint64_t>(layout_.height);
    return {0,
            {dim, width, height, static_cast<std::uint64_t>(layout_.frames), heads},
            {token, width * token, static_cast<std::uint64_t>(frame_tokens_) * token, head},
            {kSlabChannels, static_cast<std::uint32_t>(layout_.region_width),
             static_cast<std::uint32_t>(layout_.region_height), 1, 1}};
  }
  if (!region_order_) {
    const int rows = map == 1 ? layout_.text : 0;
    return {strides.offset(0, video_),
            {dim, static_cast<std::uint64_t>(rows), 1, 1, heads},
            {token, token, token, head},
            kRowsBox};
  }
  if (!cut(map)) return {0, {dim, tokens, 1, 1, heads}, {token, token, token, head}, kRowsBox};
  // Tokens of a block, by map: a whole region; cut at the grid's right edge (1), at its lower edge (2), at both (3);
  // the end of the text (4).
  const int right = layout_.width % layout_.region_width, lower = layout_.height % layout_.region_height;
  const int sizes[kTileMaps] = {block_tokens_, right * layout_.region_height, lower * layout_.region_width,
                                right * lower, block_tokens_ == kTileRows ? 0 : layout_.text % block_tokens_};
  return {0, {dim, static_cast<std::uint64_t>(sizes[map]), tokens, 1, heads}, {token, token, token, head}, kRowsBox};
}

}  // namespace draft::gpu
