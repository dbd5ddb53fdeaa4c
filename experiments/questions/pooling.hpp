#pragma once
// Question: does average pooling choose better blocks than max pooling, and how far are both from the
//           best and from chance at the same budget?
// Paper:    Table 4 and Figure 6 (HunyuanVideo 768p, 90% sparsity, judged by generated videos).
// Command:  draftbench pooling DUMP --out FILE.jsonl
// Output:   records "pooling": attention recall and output errors.

#include "experiments/study/run.hpp"

namespace draft {

/// Both poolings, rules softmax and row, 8x16 regions, sparsity 0.5 to 0.95, oracle and random.
StudyExperiment pooling_experiment(const Options& options);
CLI::App* add_pooling(CLI::App& parent, int& status);

}  // namespace draft
