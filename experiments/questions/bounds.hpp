#pragma once
// Question: do Theorems 3.3 and 3.5 hold on real heads, how tight are they, and what would be sharper?
// Paper:    Theorems 3.3 and 3.5 (section 3.2, appendix A); the paper measures neither.
// Command:  draftbench bounds DUMP --out FILE.jsonl
// Output:   records "bounds": both sides, every proof step, vacuity against sqrt(2n), the sharper bounds.

#include "experiments/study/run.hpp"

namespace draft {

/// Both poolings, all four rules, 8x16 regions, sparsity 0.5 to 0.95, and oracle and random masks, to
/// which Theorem 3.5 does not apply but step 1 of its proof does.
StudyExperiment bounds_experiment(const Options& options);
CLI::App* add_bounds(CLI::App& parent, int& status);

}  // namespace draft
