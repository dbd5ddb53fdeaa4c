#include "experiments/verify/verify.hpp"

#include <CLI/CLI.hpp>
#include <memory>

#include "experiments/input/command.hpp"
#include "experiments/tools/compare.hpp"

namespace draft {

namespace {

Action verify_options(CLI::App& command) {
  const auto options = std::make_shared<VerifyOptions>();
  add_options(command, *options,
              {.dump = true, .captures = true, .pool = true, .region = true, .rule = true, .sparsity = true});
  add_remainder_option(command, *options);
  add_text_list(command, "--kernel", options->kernels, "Kernels, such as mma,blas (default: all)");
  command.add_option("--element", options->element, "float16 or bfloat16 (default: the dump's own, else bfloat16)")
      ->check(CLI::IsMember({"float16", "bfloat16"}))
      ->type_name("NAME");
  require_whole_number(
      command.add_option("--blocks", options->blocks, "Block rows judged of each head and case (default 32; 0: all)")
          ->type_name("N"),
      0);
  require_file_name(command.add_option("--baseline", options->baseline, "Records of an earlier run to compare with")
                        ->type_name("FILE"));
  add_compare_options(command, options->compare);
  return [options] { return verify(*options); };
}

}  // namespace

Command verify_command() {
  return {"verify",
          "Holds every GPU attention kernel to the float64 reference on a dump",
          "GPU attention kernels against the float64 reference",
          "data/photodit_ragged.h5 --kernel mma --out verify.jsonl",
          true,
          verify_options,
          true};
}

}  // namespace draft
