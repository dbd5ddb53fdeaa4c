#pragma once
// Question: what do heads look like, and does the draft map look like the attention that it drafts?
// Paper:    Figures 2 and 3 show the idea; no figure shows a measured map.
// Command:  draftbench run DUMP --out FILE.jsonl (one map a head)
// Output:   records "maps": shares of the dense mass, and arrays (draft map, true block mass, mask).

#include <nlohmann/json.hpp>

#include "experiments/study/run.hpp"

namespace draft {

/// One cell a head: average pooling, rule softmax, the first chosen region (8x16) and sparsity 0.9.
StudyExperiment maps_experiment(const Options& options);

/// Where a head's dense attention goes, averaged over video rows: mass_same_region, mass_same_frame,
/// mass_same_position (the same region of every frame), mass_text, and effective_blocks, the mean over
/// block rows of exp(entropy of the row's masses in video columns, made to sum to 1) where there is any. The curves of
/// scripts/lab/model/heads.py count text as one more block and do not divide by the video's mass: their number is
/// another.
Metrics head_character(const HeadStudy& study, RegionSize region);

/// One string of 0 and 1 a block row.
nlohmann::ordered_json mask_rows(const BlockMask& mask);

/// draft_map: A_draft; block_mass: mean over the block row's tokens of the mass in each block; both
/// [regions][regions] to five significant digits. mask: mask_rows.
nlohmann::ordered_json map_arrays(HeadStudy& study, const Cell& cell, const BlockMask& mask);

}  // namespace draft
