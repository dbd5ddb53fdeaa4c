#include "experiments/tools/list.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "harness/gpu.hpp"
#if defined(DRAFT_HAS_CUDA)
#include "kernels/attend/attention.hpp"
#endif

namespace draft {

CLI::App* add_list(CLI::App& parent) {
  CLI::App* command = parent.add_subcommand("list", "Prints what there is to choose from");
  command->footer("Example: draftbench list");
  command->callback([] {
    fmt::print(
        "experiments\n"
        "  run      bounds, pooling, regions and maps from one study a head\n"
        "  bounds   Theorems 3.3 and 3.5, every proof step, sharper bounds\n"
        "  pooling  average against max pooling (Table 4)\n"
        "  regions  region sizes (Table 5)\n"
        "  flops    Figure 1 and Table 1's PFLOPs column\n"
        "  verify   GPU attention kernels against the float64 reference\n"
        "  latency  attention calls on the GPU, dense and block-sparse\n"
        "  overhead every part around the sparse attention on the GPU\n"
        "--pool\n"
        "  avg      mean of each channel over a region (eq. 2)\n"
        "  max      maximum of each channel over a region\n"
        "--rule\n"
        "  logits   largest pooled logits of the head (Theorem 3.5)\n"
        "  softmax  largest entries of A_draft of the head (section 3.1)\n"
        "  released as softmax with the released code's count, ties all kept\n"
        "  row      largest pooled logits of each block row\n"
        "policies (measured beside the draft map at equal budget)\n"
        "  oracle   blocks with the most true attention mass\n"
        "  random   blocks by chance, --seed\n"
        "--policy (latency: what keeps blocks, beside dense)\n"
        "  draft    the draft map of the call's own Q and K\n"
        "  random   blocks by chance, --seed: block rows of nearly one length\n"
        "  uneven   block rows of 0 to 3 times their mean length, --seed\n"
        "  worst    whole block rows, all others empty\n"
        "--order (latency)\n"
        "  token    straight from token order\n"
        "  region   tensors already in region order\n"
        "  gather   reorder, attention in region order, restore\n"
        "shapes (latency, overhead)\n"
        "  wan_512p, wan_768p, hunyuan_768p, HEADSxFRAMESxHEIGHTxWIDTH[+TEXT]\n"
        "--device\n"
        "  cpu      the float64 reference\n"
        "  cuda     the same sweeps on a GPU, within fp32's rounding\n"
        "--kernel (verify, latency, overhead)\n");
#if defined(DRAFT_HAS_CUDA)
    for (const gpu::AttentionKernel& kernel : gpu::attention_kernels()) {
      fmt::print("  {:<8} {}\n", kernel.name, kernel.summary);
    }
#else
    fmt::print("  none: {}\n", why_no_gpu());
#endif
  });
  return command;
}

}  // namespace draft
