#pragma once
// The cases that kernels are verified on: which blocks are kept, over which regions; and the rows that are judged.

#include <vector>

#include "experiments/input/masks.hpp"
#include "harness/options.hpp"

namespace draft {

/// For each region (8x16, 8x8, 16x16 unless chosen): dense, thirds, and the draft masks of each pooling (avg), rule
/// (softmax, row) and sparsity (0.5, 0.9), each but dense without and with a pooled remainder. A chosen sparsity of 0
/// is the dense case alone.
std::vector<MaskChoice> verify_cases(const Options& options);

/// A record's config of a case, without device and kernel; only a draft mask's has a sparsity.
Json case_config(const MaskChoice& the_case);

/// Block rows to judge, ascending: all if `wanted` is 0 or there are no more; else those with the most and the fewest
/// kept blocks, the first, the last region, the last block, and others spread evenly. `counts`: kept blocks of each
/// block row, text rows too.
std::vector<Index> judged_blocks(const std::vector<Index>& counts, Index regions, Index wanted);

}  // namespace draft
