#include "experiments/verify/verify.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "experiments/tools/compare.hpp"
#include "harness/gpu.hpp"

#if defined(DRAFT_HAS_CUDA)
#include "experiments/verify/judge.hpp"
#include "experiments/verify/table.hpp"
#endif

namespace draft {

#if defined(DRAFT_HAS_CUDA)
int verify(const VerifyOptions& options, const std::vector<gpu::AttentionKernel>& kernels) {
  require_gpu("verify");
  std::vector<Json> before;
  if (!options.baseline.empty()) before = read_records(options.baseline);
  Verification verification(options, kernels);
  const std::vector<Json>& records = verification.run();
  if (!options.quiet) print_verification(records);
  bool fine =
      std::none_of(records.begin(), records.end(), [](const Json& record) { return record["status"] == "failed"; });
  if (!options.baseline.empty()) {
    const Comparison comparison = compare(before, records, options.compare);
    if (comparison.measured == 0) {
      throw UsageError(fmt::format("--baseline: {} has no cell of this run that could be compared", options.baseline));
    }
    if (!options.quiet) print_comparison(comparison, 40);
    fine = fine && !comparison.fails(options.compare.strict);
  }
  return fine ? kExitFine : kExitCheckFailed;
}
#endif

CLI::App* add_verify(CLI::App& parent, int& status) {
  CLI::App* command =
      parent.add_subcommand("verify", "Holds every GPU attention kernel to the float64 reference on a dump");
  command->footer("Example: draftbench verify data/minidit_ragged.h5 --kernel mma --out verify.jsonl");
  const auto options = std::make_shared<VerifyOptions>();
  add_options(*command, *options,
              {.dump = true, .captures = true, .pool = true, .region = true, .rule = true, .sparsity = true});
  add_text_list(*command, "--kernel", options->kernels, "Kernels, such as mma,blas (default: all)");
  command->add_option("--element", options->element, "float16 or bfloat16 (default: the dump's own, else bfloat16)")
      ->check(CLI::IsMember({"float16", "bfloat16"}))
      ->type_name("NAME");
  require_whole_number(
      command->add_option("--blocks", options->blocks, "Block rows judged of each head and case (default 32; 0: all)")
          ->type_name("N"),
      0);
  require_file_name(command->add_option("--baseline", options->baseline, "Records of an earlier run to compare with")
                        ->type_name("FILE"));
  add_compare_options(*command, options->compare);
  command->callback([options, &status] {
#if defined(DRAFT_HAS_CUDA)
    status = verify(*options, gpu::attention_kernels());
#else
    static_cast<void>(status);
    require_gpu("verify");
#endif
  });
  return command;
}

}  // namespace draft
