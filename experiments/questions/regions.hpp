#pragma once
// Question: what does the region's size do to what the mask keeps, and is 8x16 better than 16x16?
// Paper:    Table 5 (HunyuanVideo 768p, 90% sparsity, judged by generated videos).
// Command:  draftbench regions DUMP --out FILE.jsonl
// Output:   records "regions": attention recall and output errors for each region size.

#include "experiments/study/run.hpp"

namespace draft {

/// 4x8, 8x8, 8x16, 16x8, 16x16 and 16x32, average pooling, rule softmax, sparsity 0.5 to 0.95, oracle
/// and random.
StudyExperiment regions_experiment(const Options& options);
CLI::App* add_regions(CLI::App& parent, int& status);

}  // namespace draft
