#pragma once
// The questions that `run` asks at once; each one's own file says what it is, where the paper asks it, the command and
// the output.

#include "experiments/study/maps.hpp"
#include "experiments/study/run.hpp"

namespace draft {

/// Both poolings, all four rules, 8x16 regions, sparsity 0.5 to 0.95, and oracle and random masks, to
/// which Theorem 3.5 does not apply but step 1 of its proof does.
StudyExperiment bounds_experiment(const Options& options);

/// Both poolings, rules softmax and row, 8x16 regions, sparsity 0.5 to 0.95, oracle and random.
StudyExperiment pooling_experiment(const Options& options);

/// 4x8, 8x8, 8x16, 16x8, 16x16 and 16x32, average pooling, rule softmax, sparsity 0.5 to 0.95, oracle
/// and random.
StudyExperiment regions_experiment(const Options& options);

}  // namespace draft
