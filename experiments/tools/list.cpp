// What there is to choose from: experiments, poolings, rules, policies, devices and kernels.
// Command: draftbench list

#include "experiments/tools/list.hpp"

#include <fmt/format.h>

#include "experiments/input/kernels.hpp"
#include "experiments/input/masks.hpp"
#include "harness/options.hpp"

namespace draft {

namespace {

std::string policy_lines() {
  std::string lines;
  for (const Policy policy : all_policies()) {
    if (!row_of(policy).takes_sparsity) continue;
    lines += fmt::format("  {:<14} {}\n", to_string(policy) + (is_timed(policy) ? "*" : ""), row_of(policy).summary);
  }
  return lines;
}

}  // namespace

int print_list(std::span<const Command> commands) {
  fmt::print("experiments\n");
  for (const Command& command : commands) {
    if (command.experiment != nullptr) fmt::print("  {:<8} {}\n", command.name, command.experiment);
  }
  fmt::print(
      "--pool\n"
      "  avg      mean of each channel over a region (eq. 2)\n"
      "  max      maximum of each channel over a region\n"
      "--rule\n"
      "  logits   largest pooled logits of the head (Theorem 3.5)\n"
      "  softmax  largest entries of A_draft of the head (section 3.1)\n"
      "  released as softmax with the released code's count, ties all kept\n"
      "  row      largest pooled logits of each block row\n"
      "--policy (*: latency, too)\n"
      "{}"
      "--order (latency)\n"
      "  token    straight from token order\n"
      "  region   tensors already in region order\n"
      "  gather   reorder, attention in region order, restore\n"
      "shapes (latency, overhead)\n"
      "  wan_512p, wan_768p, hunyuan_768p, HEADSxFRAMESxHEIGHTxWIDTH[+TEXT]\n"
      "--device\n"
      "  cpu      the float64 reference\n"
      "  cuda     the same sweeps on a GPU, within fp32's rounding\n"
      "--kernel (verify, latency, overhead)\n"
      "{}",
      policy_lines(), kernel_lines());
  return kExitFine;
}

}  // namespace draft
