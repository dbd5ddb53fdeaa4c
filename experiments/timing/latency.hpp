#pragma once
// Question: what does an attention call cost, dense and block-sparse, and how near is that to the blocks it saves?
//           Does the length of the block rows or the order of the tokens matter? What would Figure 4's speed-up be?
// Command:  draftbench latency DUMP|SHAPE [--kernel NAMES] [--order ORDERS] [--policy POLICIES] --out FILE.jsonl
// Output:   records "latency": samples of one call by CUDA events, with the rate over kept blocks, the speed-up over
//           the dense time of the same run, kernel and order, and the projection to a whole video
//           (experiments/timing/projection.hpp). With --sustain, records "latency_sustained": samples of many calls in
//           a row, at the clock that the power limit then leaves.

#include <string>
#include <vector>

#include "experiments/input/masks.hpp"
#include "experiments/input/timed_options.hpp"
#include "harness/numbers/element.hpp"
#include "harness/record/record.hpp"

namespace draft {

namespace gpu {
struct AttentionKernel;
}

struct LatencyOptions : TimedOptions {
  std::vector<std::string> orders{"token"};  // --order
  double sustain_ms = 0.0;                   // --sustain; 0: a sample is one call

  [[nodiscard]] const char* experiment() const { return sustain_ms > 0.0 ? "latency_sustained" : "latency"; }
};

/// The masks of each policy of --policy (the draft) over this region with each --remainder (none), but none at sparsity
/// 0, which is dense. Throws std::invalid_argument on an unknown policy.
std::vector<MaskChoice> latency_masks(const LatencyOptions& options, RegionSize region);

/// A record's `config`. latency_run adds `sustain_ms` if it is not 0.
Json call_config(const std::string& kernel, Element element, TokenOrder order, const MaskChoice& mask,
                 std::uint64_t seed);

/// The counts among a record's `metrics`.
Json metrics_of(const KeptCounts& counts);

/// FLOPs of the blocks that a call computes, each counted whole: 4 * (region's tokens)^2 * head_dim.
double kept_flops(const KeptCounts& counts, RegionSize region, Index head_dim);

/// Times every cell that options.out does not hold yet, and the dense call of every kernel and order that one of them
/// is compared with; one record a cell. Returns kExitCheckFailed if a kernel failed. Needs a GPU (require_gpu); throws
/// UsageError if there is no such kernel or the call is refused.
int latency(const LatencyOptions& options, const std::vector<gpu::AttentionKernel>& kernels);
/// With the kernels of this build.
int latency(const LatencyOptions& options);

}  // namespace draft
