#include "experiments/input/kernels.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "harness/options.hpp"
#include "kernels/attend/attention.hpp"

namespace draft {

std::string kernel_lines() {
  std::string lines;
  for (const gpu::AttentionKernel& kernel : gpu::attention_kernels()) {
    lines += fmt::format("  {:<8} {}\n", kernel.name, kernel.summary);
  }
  return lines;
}

std::vector<gpu::AttentionKernel> chosen_kernels(const std::vector<std::string>& names,
                                                 const std::vector<gpu::AttentionKernel>& all) {
  if (names.empty()) return all;
  std::vector<gpu::AttentionKernel> chosen;
  for (const std::string& name : names) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& kernel) { return kernel.name == name; });
    if (found == all.end()) {
      std::string known;
      for (const auto& kernel : all) known += (known.empty() ? "" : ", ") + kernel.name;
      throw UsageError(fmt::format("--kernel: wanted some of {}, found '{}'", known, name));
    }
    chosen.push_back(*found);
  }
  return chosen;
}

std::vector<gpu::AttentionKernel> chosen_or_fused_kernels(const std::vector<std::string>& names,
                                                          const std::vector<gpu::AttentionKernel>& all) {
  if (!names.empty()) return chosen_kernels(names, all);
  std::vector<gpu::AttentionKernel> fused;
  for (const char* name : {"wgmma", "mma"}) {
    std::copy_if(all.begin(), all.end(), std::back_inserter(fused), [&](const auto& one) { return one.name == name; });
  }
  return fused;
}

}  // namespace draft
