#include "experiments/tools/about.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "harness/gpu.hpp"
#include "harness/record/provenance.hpp"
#include "harness/record/record.hpp"

namespace draft {

CLI::App* add_about(CLI::App& parent) {
  CLI::App* command = parent.add_subcommand("about", "Prints this machine and this build as records have them");
  command->footer("Example: draftbench about --device cpu");
  const auto device = std::make_shared<std::string>("cpu");
  command->add_option("--device", *device, "cpu (default), or cuda: with the GPU")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->type_name("NAME");
  command->callback([device] {
    if (*device == "cuda") require_gpu("about --device cuda");
    const nlohmann::ordered_json about{{"machine", machine_info()}, {"build", build_info()}};
    fmt::print("{}\n", record_line(about));
  });
  return command;
}

}  // namespace draft
