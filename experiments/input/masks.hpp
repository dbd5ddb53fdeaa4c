#pragma once
// Which blocks a call computes: a mask's choice as a record has it, and masks as the kernels read them.

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/policies/policy.hpp"
#include "harness/options.hpp"
#include "harness/record/record.hpp"

namespace draft {

/// Which blocks are computed, and what stands for the others: what a record's `config` says of a mask.
struct MaskChoice {
  Policy policy = Policy::draft;
  Pool pool = Pool::average;  // of policies that read the draft map, as is the rule
  Rule rule = Rule::softmax;
  RegionSize region{};  // kRowOfTokens for policies whose blocks are no regions
  double sparsity = 0.0;
  bool released = false;  // by the policy's own threshold, whatever sparsity comes of it
  bool by_call = false;   // the sparsity is that of all heads of a call together
  Remainder remainder = Remainder::none;
  bool operator==(const MaskChoice&) const = default;
};
/// policy; pool and rule of one that reads the draft map; region; block_layout unless blocks are regions; sparsity, of
/// all heads of a call together if budget is "call"; or budget "released"; remainder if there is one.
Json config_of(const MaskChoice& mask);
/// "8x16" from a config's region, [8, 16].
std::string region_text(const Json& region);
/// Adds `seed` where chance decides.
void add_seed(Json& config, Policy policy, std::uint64_t seed);

/// A policy's masks over a region (over kRowOfTokens, if its blocks are no regions): at each sparsity; if it reads the
/// draft map, for each pooling and rule, too.
std::vector<MaskChoice> mask_choices(Policy policy, RegionSize region, const std::vector<Pool>& pools,
                                     const std::vector<Rule>& rules, const std::vector<double>& sparsities);

/// Adds --policy, a list of the policies that `takes` accepts.
void add_policy_option(CLI::App& command, std::vector<std::string>& policies, const std::string& description,
                       bool (*takes)(Policy policy));

/// Whether a call under this policy can be timed: its masks follow a sparsity, and the device (the draft's) or
/// policy_masks makes them.
bool is_timed(Policy policy);

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
