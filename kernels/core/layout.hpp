#pragma once
// The index arithmetic of one attention call, on the host and on the device. No other file of kernels/ multiplies
// frames by height. The partition is the reference's: frames are cut every region_height rows and every region_width
// columns, edge regions are smaller, text tokens come after the video tokens.

#include <cstdint>

#if defined(__CUDACC__)
#define DRAFT_HOST_DEVICE __host__ __device__
#else
#define DRAFT_HOST_DEVICE
#endif

namespace draft::gpu {

/// Where a region lies: its first token and its extent in rows and columns of one frame.
struct Box {
  int first;
  int rows;
  int columns;
};

/// Tensors of a call are [heads, tokens, head_dim]. Tokens and blocks fit 32 bits; element offsets need 64.
struct Layout {
  int heads = 1;
  int frames = 1;
  int height = 1;
  int width = 1;
  int text = 0;  // text tokens, after the video tokens
  int head_dim = 128;
  int region_height = 8;
  int region_width = 16;

  DRAFT_HOST_DEVICE int frame_tokens() const { return height * width; }
  DRAFT_HOST_DEVICE int video() const { return frames * frame_tokens(); }
  DRAFT_HOST_DEVICE int tokens() const { return video() + text; }

  DRAFT_HOST_DEVICE int region_rows() const { return (height + region_height - 1) / region_height; }
  DRAFT_HOST_DEVICE int region_columns() const { return (width + region_width - 1) / region_width; }
  DRAFT_HOST_DEVICE int regions() const { return frames * region_rows() * region_columns(); }
  /// Tokens of a region that no edge cuts, and of a text block.
  DRAFT_HOST_DEVICE int region_tokens() const { return region_height * region_width; }
  DRAFT_HOST_DEVICE int text_blocks() const { return (text + region_tokens() - 1) / region_tokens(); }
  /// Block rows, and block columns, of the attention: the regions, then the text blocks.
  DRAFT_HOST_DEVICE int blocks() const { return regions() + text_blocks(); }

  /// First element of a token's row in [heads, tokens, head_dim].
  DRAFT_HOST_DEVICE std::int64_t offset(int head, int token) const {
    return (static_cast<std::int64_t>(head) * tokens() + token) * head_dim;
  }
  /// First entry of a head in [heads, regions, regions].
  DRAFT_HOST_DEVICE std::int64_t map_offset(int head) const {
    return static_cast<std::int64_t>(head) * regions() * regions();
  }

  /// Where a region lies, in token order.
  DRAFT_HOST_DEVICE Box box(int region) const {
    const int per_frame = region_rows() * region_columns();
    const int row = region % per_frame / region_columns() * region_height;
    const int column = region % region_columns() * region_width;
    return {region / per_frame * frame_tokens() + row * width + column, smaller(region_height, height - row),
            smaller(region_width, width - column)};
  }

  /// The block of a token: its region, or its text block.
  DRAFT_HOST_DEVICE int block_of(int token) const {
    if (token >= video()) return regions() + (token - video()) / region_tokens();
    const int in_frame = token % frame_tokens();
    return (token / frame_tokens() * region_rows() + in_frame / width / region_height) * region_columns() +
           in_frame % width / region_width;
  }

  /// Algorithm 1: position in region order -> original token. Text stays where it is.
  DRAFT_HOST_DEVICE int token_at(int position) const {
    if (position >= video()) return position;
    const int in_frame = position % frame_tokens();
    const int strip = in_frame / (region_height * width) * region_height;  // first row of the row of regions
    const int rows = smaller(region_height, height - strip);
    const int in_strip = in_frame - strip * width;
    const int column = in_strip / (rows * region_width) * region_width;
    const int columns = smaller(region_width, width - column);
    const int in_region = in_strip - column * rows;
    return position - in_frame + (strip + in_region / columns) * width + column + in_region % columns;
  }

  /// Algorithm 2: original token -> position in region order.
  DRAFT_HOST_DEVICE int position_of(int token) const {
    if (token >= video()) return token;
    const int in_frame = token % frame_tokens();
    const int row = in_frame / width, x = in_frame % width;
    const int strip = row / region_height * region_height;
    const int column = x / region_width * region_width;
    const int columns = smaller(region_width, width - column);
    return token - in_frame + strip * width + column * smaller(region_height, height - strip) +
           (row - strip) * columns + x - column;
  }

 private:
  DRAFT_HOST_DEVICE static int smaller(int a, int b) { return a < b ? a : b; }
};

/// So that block columns fit 16 bits and a histogram of row lengths fits 48 KiB of shared memory.
inline constexpr int kMostBlocks = 12000;

/// Throws std::invalid_argument that names the field, the wanted and the found value unless every extent is
/// at least 1 (text: 0), head_dim is a multiple of 8 up to 2048, tokens fit 31 bits, heads fit a grid's y
/// axis and blocks() <= kMostBlocks.
void require_valid(const Layout& layout);

}  // namespace draft::gpu
