#include "experiments/commands.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <stdexcept>

#include "experiments/flops/flops.hpp"
#include "experiments/questions/questions.hpp"
#include "experiments/timing/latency.hpp"
#include "experiments/timing/overhead.hpp"
#include "experiments/tools/compare.hpp"
#include "experiments/tools/convert.hpp"
#include "experiments/tools/tools.hpp"
#include "experiments/verify/verify.hpp"
#include "harness/gpu.hpp"

namespace draft {
namespace {

template <StudyExperiment (*kExperiment)(const Options&)>
Action one_question(CLI::App& command) {
  return study_command(command, [](const Options& options) { return std::vector{kExperiment(options)}; });
}

constexpr Command kCommands[] = {
    {"run", "Measures everything on a dump: bounds, pooling, regions and maps",
     "bounds, pooling, regions and maps from one study a head", "data/minidit_512p.h5 --out records.jsonl", false,
     [](CLI::App& command) { return study_command(command, all_experiments); }},
    {"inspect", "Shows what a dump holds and refuses an unsound one", nullptr, "captured.h5 --heads 0,2 --check", false,
     inspect_command},
    {"bounds", "Checks Theorems 3.3 and 3.5: both sides, every proof step, tightness, sharper bounds",
     "Theorems 3.3 and 3.5, every proof step, sharper bounds",
     "data/minidit_512p.h5 --rule softmax,row --sparsity 0.5,0.9 --out bounds.jsonl", false,
     one_question<bounds_experiment>},
    {"pooling", "Compares average with max pooling, between oracle and random masks (Table 4)",
     "average against max pooling (Table 4)", "data/minidit_512p.h5 --sparsity 0.5,0.75,0.9 --out pooling.jsonl", false,
     one_question<pooling_experiment>},
    {"regions", "Compares region sizes (Table 5)", "region sizes (Table 5)",
     "data/minidit_512p.h5 --region 8x16,16x16 --sparsity 0.9 --out regions.jsonl", false,
     one_question<regions_experiment>},
    {"flops", "Computes Figure 1 and Table 1's PFLOPs from the models' architectures",
     "Figure 1 and Table 1's PFLOPs column", "--out records.jsonl", false, flops_command},
    {"generate", "Makes a dump with known properties", nullptr,
     "block-smooth --out smooth.h5 --grid 4x16x32 --text 8 --heads 2 --head-dim 64 --seed 1 --dtype bfloat16", false,
     generate_command},
    {"verify", "Holds every GPU attention kernel to the float64 reference on a dump",
     "GPU attention kernels against the float64 reference", "data/minidit_ragged.h5 --kernel mma --out verify.jsonl",
     true, verify_command},
    {"latency", "Times attention calls on the GPU, dense and block-sparse, on a dump or a shape",
     "attention calls on the GPU, dense and block-sparse",
     "data/minidit_512p.h5 --sparsity 0.75,0.9 --out latency.jsonl", true, latency_command},
    {"overhead", "Times every part around the sparse attention on the GPU: draft, selection, lists, reordering",
     "every part around the sparse attention on the GPU", "data/minidit_512p.h5 --sparsity 0.9 --out overhead.jsonl",
     true, overhead_command},
    {"compare", "Compares records with earlier ones of the same cells", nullptr, "old.jsonl new.jsonl", false,
     compare_command},
    {"convert", "Makes records of version 2 of those of version 1", nullptr, "old.jsonl --out new.jsonl", false,
     convert_command},
    {"list", "Prints what there is to choose from", nullptr, "", false,
     [](CLI::App&) -> Action { return [] { return print_list(commands()); }; }},
    {"about", "Prints this machine and this build as records have them", nullptr, "--device cpu", false, about_command},
};

}  // namespace

std::span<const Command> commands() { return kCommands; }

CLI::App* add_command(CLI::App& app, const std::string& name, int& status) {
  const auto row = std::ranges::find_if(kCommands, [&](const Command& one) { return one.name == name; });
  if (row == std::end(kCommands)) throw std::invalid_argument("add_command: the table has no '" + name + "'");
  CLI::App* command = app.add_subcommand(row->name, row->question);
  command->footer("");  // else it has the program's
  command->callback([run = row->options(*command), needs_gpu = row->needs_gpu, name, &status] {
    if (needs_gpu) require_gpu(name);
    status = run();
  });
  const std::string note = command->get_footer(), gap = *row->example == '\0' ? "" : " ";
  command->footer((note.empty() ? "" : note + "\n") + "Example: draftbench " + row->name + gap + row->example);
  return command;
}

}  // namespace draft
