#pragma once
// Which blocks a timed call computes: masks that are made without looking at Q and K, and masks as the kernels read
// them.

#include <cstdint>
#include <string>
#include <vector>

#include "reference/draft_mask.hpp"

namespace draft {

enum class MaskPolicy {
  draft,   // the draft map of the call's own Q and K
  random,  // each block by chance, one threshold a head: lengths of block rows hardly differ
  uneven,  // lengths of block rows from 0 to 3 times their mean (or to the whole row), blocks by chance
  worst,   // whole rows: as many as the sparsity allows, every other row is empty
};
std::string to_string(MaskPolicy policy);
/// Throws std::invalid_argument that lists the policies.
MaskPolicy parse_mask_policy(const std::string& text);

/// Masks of `heads` heads, kept_count(sparsity, regions^2) blocks each; `worst` keeps the whole rows that fit into as
/// many, at least one. Heads differ (but for `worst`), the same on every machine. On all cores. Throws
/// std::invalid_argument for MaskPolicy::draft, which is no mask without Q and K, or unless 0 <= sparsity < 1.
std::vector<BlockMask> policy_masks(MaskPolicy policy, Index heads, Index regions, double sparsity, std::uint64_t seed);

/// The kept-block lists of kernels/draft/draft.hpp on the host.
struct HostLists {
  std::vector<std::uint16_t> columns;  // [heads, blocks, blocks]: a row's kept columns, ascending, then zeros
  std::vector<std::int32_t> counts;    // [heads, blocks]
  std::vector<std::uint16_t> order;    // [heads, blocks]: by falling count, equal counts by rising row
};

/// Text columns are kept in every row, text rows keep all. `masks` have one number of regions, and with the text blocks
/// at most 65,536 blocks a row.
HostLists lists_of(const std::vector<BlockMask>& masks, Index text_blocks);

/// How much a call computes; rows are those of the video, and their lengths count video columns.
struct KeptCounts {
  Index heads = 0, regions = 0, text_blocks = 0;
  Index kept_blocks = 0;  // video x video
  Index empty_rows = 0;   // no video block
  Index row_blocks_max = 0;
  [[nodiscard]] Index blocks() const { return regions + text_blocks; }
  [[nodiscard]] Index total_blocks() const { return heads * regions * regions; }
  [[nodiscard]] Index all_blocks() const { return heads * blocks() * blocks(); }
  [[nodiscard]] Index kept_with_text() const { return kept_blocks + all_blocks() - total_blocks(); }
  [[nodiscard]] double kept_share() const {
    return static_cast<double>(kept_with_text()) / static_cast<double>(all_blocks());
  }
  [[nodiscard]] double row_blocks_mean() const {
    return static_cast<double>(kept_blocks) / static_cast<double>(heads * regions);
  }
};

/// Of lists' counts, [heads, regions + text_blocks].
KeptCounts kept_counts(const std::vector<std::int32_t>& counts, Index heads, Index regions, Index text_blocks);
/// Of dense attention.
KeptCounts dense_counts(Index heads, Index regions, Index text_blocks);

}  // namespace draft
