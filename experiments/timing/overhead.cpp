#include "experiments/timing/overhead.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "harness/gpu.hpp"

#if defined(DRAFT_HAS_CUDA)
#include "experiments/timing/overhead_run.hpp"
#include "experiments/timing/overhead_table.hpp"
#endif

namespace draft {

double part_bytes(const std::string& part, const KeptCounts& counts, Index tokens, Index video, Index head_dim) {
  constexpr Index kElement = 2, kFloat = 4, kColumn = 2, kRow = 6;  // a row has a count and a place in the order
  const Index tensor = kElement * counts.heads * tokens * head_dim;
  const Index map = kFloat * counts.total_blocks();
  Index bytes = 0;
  if (part == "pool_q" || part == "pool_k") {
    bytes = kElement * counts.heads * video * head_dim + kFloat * counts.heads * counts.regions * head_dim;
  }
  if (part == "select") bytes = map;
  if (part == "lists") bytes = map + kColumn * counts.kept_with_text() + kRow * counts.heads * counts.blocks();
  if (part == "reorder") bytes = 3 * 2 * tensor;
  if (part == "restore") bytes = 2 * tensor;
  return static_cast<double>(bytes);
}

#if defined(DRAFT_HAS_CUDA)
int overhead(const TimedOptions& options, const std::vector<gpu::AttentionKernel>& kernels) {
  require_gpu("overhead");
  OverheadRun run(options, kernels);
  const std::vector<Json>& records = run.run();
  if (!options.quiet) print_overhead(records, run.done_before());
  const bool fine =
      std::none_of(records.begin(), records.end(), [](const Json& one) { return one["status"] == "failed"; });
  return fine ? kExitFine : kExitCheckFailed;
}
#endif

CLI::App* add_overhead(CLI::App& parent, int& status) {
  CLI::App* command = parent.add_subcommand(
      "overhead", "Times every part around the sparse attention on the GPU: draft, selection, lists, reordering");
  command->footer("Example: draftbench overhead data/minidit_512p.h5 --sparsity 0.9 --out overhead.jsonl");
  const auto options = std::make_shared<TimedOptions>();
  add_timed_options(*command, *options);
  command->callback([options, &status] {
#if defined(DRAFT_HAS_CUDA)
    status = overhead(*options, gpu::attention_kernels());
#else
    static_cast<void>(status);
    require_gpu("overhead");
#endif
  });
  return command;
}

}  // namespace draft
