#pragma once
// Question: does every attention kernel compute on this dump what the reference computes?
// Command:  draftbench verify DUMP [--kernel NAMES] [--baseline FILE] --out FILE.jsonl
// Output:   records "verify": each kernel's error under the same mask and inputs, as a share of what rounding
//           explains (reference/rounding/kernel_error.hpp); exit status 1 on any failure.

#include <functional>
#include <string>
#include <vector>

#include "experiments/verify/cases.hpp"
#include "harness/compare/compare.hpp"
#include "harness/options.hpp"

namespace draft {

namespace gpu {
struct AttentionKernel;
}

struct VerifyOptions : Options {
  std::vector<std::string> kernels;  // --kernel; empty: all
  std::string element;               // --element; empty: the dump's own, bfloat16 if that has more than 16 bits
  Index blocks = 32;                 // --blocks: block rows judged of each head and case; 0: all
  std::string baseline;              // --baseline: records to compare with; empty: none
  CompareOptions compare;
};

/// Runs every kernel on every case of the chosen heads, in both token orders, and judges it. Returns kExitCheckFailed
/// if a kernel is wrong, writes outside its outputs, leaves something unwritten, gives other bits the second time, or
/// is worse than the baseline. Needs a GPU (require_gpu); throws UsageError if there is no such kernel or the dump is
/// refused.
int verify(const VerifyOptions& options, const std::vector<gpu::AttentionKernel>& kernels);
/// With the kernels of this build.
int verify(const VerifyOptions& options);

}  // namespace draft
