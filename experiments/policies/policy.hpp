#pragma once
// Who chooses the blocks that are computed: a policy is a file of this folder and a line of policies.inc.

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/policies/block_layout.hpp"
#include "reference/draft_mask.hpp"

namespace draft {

/// A policy of policies.inc.
enum class Policy {
#define POLICY(name) name,
#include "experiments/policies/policies.inc"
#undef POLICY
};

/// What a policy chooses by.
enum class Reads {
  nothing,    // numbers of regions and chance: its masks can be timed on shapes, too
  grid,       // where a block's tokens are: the same mask for every head
  draft_map,  // the pooled scores of one pooling (--pool), under one rule (--rule)
  head,       // queries, keys and the true attention mass of the blocks: for studies alone
  earlier,    // the same of an earlier step of this head: where a dump has one
};

/// One head as a policy sees it. Pointers are null but for what the policy's `reads` names.
struct PolicyInput {
  Index regions = 0;                     // block rows, and blocks in each
  bool causal = false;                   // of a causal grid: the ranking is made a causal one afterwards
  std::uint64_t seed = 1;                // --seed
  std::uint64_t stream = 0;              // which head: chance differs between heads
  const DraftMap* map = nullptr;         // Reads::draft_map
  Rule rule = Rule::softmax;             // Reads::draft_map
  const Grid* grid = nullptr;            // Reads::grid: the video's own, whatever the layout
  const Problem* problem = nullptr;      // Reads::head, in the study's units, tokens in the row's layout
  const Partition* partition = nullptr;  // Reads::grid and head: which tokens a block has, in the row's layout
  const Matrix* mass = nullptr;          // Reads::head: attention mass of each block, [regions, regions], the sum over
                                         // the block row's tokens
  const Matrix* earlier_mass = nullptr;  // Reads::earlier: `mass` of the earlier step
  const Clusters* clusters = nullptr;    // BlockLayout::clusters: those that the policy found
};

/// What a head's choice is made of, for its cost.
struct ChoiceSize {
  double tokens = 0, head_dim = 0, blocks = 0;  // of the video
};

/// What choosing a head's blocks costs: multiplications and additions, and bytes read and written by an implementation
/// that reads Q and K once in 16 bits and keeps its maps in 32.
struct ChoiceCost {
  double flops = 0, bytes = 0;
};

/// Bytes of reading Q and K once.
double bytes_of_q_and_k(const ChoiceSize& size);
/// Of pooling Q and K over blocks and multiplying what is pooled.
ChoiceCost cost_of_pooled_maps(const ChoiceSize& size);
/// Of all logits, from which the true attention mass is.
ChoiceCost cost_of_all_logits(const ChoiceSize& size);

/// How the heads of a call share the blocks of a sparsity, by one number that the policy finds for each.
struct HeadBudget {
  /// [sparsity]: all in one call, since most of the work is the head's and not the sparsity's.
  std::vector<double> (*worths)(const PolicyInput& input, const std::vector<double>& sparsities);
  /// [head]: how many of its ranking each keeps, of a block row or the head as the ranking is.
  std::vector<Index> (*cuts)(const std::vector<double>& worths, Index regions, bool causal, double sparsity);
};

/// A row of the table of policies: one of `rank` and `mask` is there.
struct PolicyRow {
  const char* summary;  // one line
  BlockLayout layout = BlockLayout::region;
  /// Of BlockLayout::by_head and clusters: the head's own, from the head as a dump has it (problem, seed, stream).
  BlockLayout (*choose_layout)(const PolicyInput& input, double sparsity) = nullptr;
  Clusters (*find_clusters)(const PolicyInput& input) = nullptr;
  Reads reads = Reads::nothing;
  bool by_chance = false;       // records have the seed
  bool takes_sparsity = true;   // masks follow --sparsity
  bool causal = false;          // for causal grids, too
  bool made_for_tests = false;  // its rows are a kernel's hard cases; `policies` leaves it out unless it is named
  /// The order in which blocks are kept: masks at several sparsities are nested and share one sweep.
  Ranking (*rank)(const PolicyInput& input) = nullptr;
  /// With `rank`: how many of them, as of a block row or the head as the ranking is; null: kept_count of the head.
  Index (*cut)(const PolicyInput& input, double sparsity) = nullptr;
  /// Instead of `rank`: the mask at one sparsity.
  BlockMask (*mask)(const PolicyInput& input, double sparsity) = nullptr;
  /// The mask by the rule's own threshold, with the parameters that were released; null: it has none of its own.
  BlockMask (*released)(const PolicyInput& input) = nullptr;
  /// Of choosing; null: nothing is computed.
  ChoiceCost (*cost)(const ChoiceSize& size) = nullptr;
  /// What `rank` orders by, the largest first, where it compares between heads: a budget may be of all heads of a call.
  Matrix (*scores)(const PolicyInput& input) = nullptr;
  /// Of policies that give each head of a call its own budget; null: each has the sparsity's.
  const HeadBudget* heads = nullptr;
};

const PolicyRow& row_of(Policy policy);
inline bool reads_map(Policy policy) { return row_of(policy).reads == Reads::draft_map; }

/// All policies, in the order of policies.inc.
const std::vector<Policy>& all_policies();

std::string to_string(Policy policy);
/// Throws std::invalid_argument that lists the policies.
Policy parse_policy(const std::string& text);

/// The policy's `rank` of this head, a causal_ranking() where the grid is causal.
Ranking ranking_of(const PolicyRow& row, const PolicyInput& input);
/// How many blocks of its ranking a policy keeps. Throws std::invalid_argument unless 0 <= sparsity < 1.
Index cut_of(const PolicyRow& row, const PolicyInput& input, double sparsity);

/// One head's mask. Throws std::invalid_argument unless 0 <= sparsity < 1.
BlockMask mask_of(Policy policy, const PolicyInput& input, double sparsity);

/// Masks of `heads` heads by a policy that reads nothing. Heads differ where chance decides, and are the same on every
/// machine. On all cores. Throws std::invalid_argument for other policies, and unless 0 <= sparsity < 1.
std::vector<BlockMask> policy_masks(Policy policy, Index heads, Index regions, double sparsity, std::uint64_t seed);

}  // namespace draft
