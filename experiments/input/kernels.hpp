#pragma once
// The attention kernels that a command line asks for.

#include <string>
#include <vector>

namespace draft {

namespace gpu {
struct AttentionKernel;
}

/// A line each of this build's kernels, or one that says why there is none.
std::string kernel_lines();

/// Those of `all` with these names, in the names' order; all of them without names. Throws UsageError that lists what
/// there is on a name that is none.
std::vector<gpu::AttentionKernel> chosen_kernels(const std::vector<std::string>& names,
                                                 const std::vector<gpu::AttentionKernel>& all);

/// Where no kernel is named: the fused ones, wgmma and mma, as far as `all` has them.
std::vector<gpu::AttentionKernel> chosen_or_fused_kernels(const std::vector<std::string>& names,
                                                          const std::vector<gpu::AttentionKernel>& all);

}  // namespace draft
