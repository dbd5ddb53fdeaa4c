#pragma once
// The cases that kernels are verified on: which blocks are kept, over which regions; and the rows that are judged.

#include <vector>

#include "harness/options.hpp"
#include "harness/record/record.hpp"

namespace draft {

enum class Keep {
  all,     // dense attention
  draft,   // the draft map's blocks under a rule
  uneven,  // pseudo-random blocks, a block row's share of them 0, 1/3, 2/3 or all: rows that keep nothing, too
};

struct VerifyCase {
  Keep keep = Keep::all;
  RegionSize region;
  Pool pool = Pool::average;
  Rule rule = Rule::softmax;
  double sparsity = 0.0;  // of the draft map's
};

/// For each region (8x16, 8x8, 16x16 unless chosen): dense, uneven, and the draft masks of each pooling (avg), rule
/// (softmax, row) and sparsity (0.5, 0.9). A chosen sparsity of 0 is the dense case alone.
std::vector<VerifyCase> verify_cases(const Options& options);

/// The record format's config of a case, without device and kernel.
Json config_of(const VerifyCase& the_case);

/// The mask of Keep::uneven.
BlockMask uneven_mask(Index regions, std::uint64_t seed);

/// Block rows to judge, ascending: all if `wanted` is 0 or there are no more; else those with the most and the fewest
/// kept blocks, the first, the last region, the last block, and others spread evenly. `counts`: kept blocks of each
/// block row, text rows too.
std::vector<Index> judged_blocks(const std::vector<Index>& counts, Index regions, Index wanted);

}  // namespace draft
