#pragma once
// Which blocks a call computes: a mask's choice as a record has it, masks that are made without looking at Q and K, and
// masks as the kernels read them.

#include <cstdint>
#include <string>
#include <vector>

#include "harness/record/record.hpp"
#include "reference/draft_mask.hpp"

namespace draft {

/// Which blocks are computed: what a record's `config` says of a mask.
struct MaskChoice {
  Policy policy = Policy::draft;
  Pool pool = Pool::average;  // of Policy::draft
  Rule rule = Rule::softmax;  // of Policy::draft
  RegionSize region{};
  double sparsity = 0.0;
  bool operator==(const MaskChoice&) const = default;
};
/// policy; pool and rule of a draft; region; sparsity.
Json config_of(const MaskChoice& mask);
/// "8x16" from a config's region, [8, 16].
std::string region_text(const Json& region);
/// Adds `seed` where chance decides.
void add_seed(Json& config, Policy policy, std::uint64_t seed);

/// The policies of timed calls: all but the oracle, which needs a sweep over the logits, and what stands for itself.
inline constexpr Policy kTimedPolicies[] = {Policy::draft, Policy::random, Policy::uneven, Policy::worst};
/// Throws std::invalid_argument that lists the timed policies.
Policy parse_timed_policy(const std::string& text);

/// Masks of `heads` heads that need no Q and K: kept_count(sparsity, regions^2) blocks each; `worst` keeps the whole
/// rows that fit into as many, at least one; `thirds` has no sparsity. Heads differ (but for `worst`), the same on
/// every machine. On all cores. Throws std::invalid_argument for policies that are no such mask, or unless 0 <=
/// sparsity < 1.
std::vector<BlockMask> policy_masks(Policy policy, Index heads, Index regions, double sparsity, std::uint64_t seed);

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
