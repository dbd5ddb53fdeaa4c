// Question: on what machine, and by what build, would a run's records be made?
// Command: draftbench about [--device cuda]
// Output: one JSON object, {"machine": ..., "build": ...}, as every record has them.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "experiments/input/command.hpp"
#include "harness/gpu.hpp"
#include "harness/options.hpp"
#include "harness/record/provenance.hpp"
#include "harness/record/record.hpp"

namespace draft {

namespace {

Action about_options(CLI::App& command) {
  const auto device = std::make_shared<std::string>("cpu");
  command.add_option("--device", *device, "cpu (default), or cuda: with the GPU")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->type_name("NAME");
  return [device] {
    if (*device == "cuda") require_gpu("about --device cuda");
    const nlohmann::ordered_json about{{"machine", machine_info()}, {"build", build_info()}};
    fmt::print("{}\n", record_line(about));
    return kExitFine;
  };
}

}  // namespace

Command about_command() {
  return {"about",      "Prints this machine and this build as records have them", nullptr, "--device cpu", false,
          about_options};
}

}  // namespace draft
