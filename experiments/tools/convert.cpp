#include "experiments/tools/convert.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <system_error>

#include "experiments/input/command.hpp"
#include "experiments/input/shape.hpp"
#include "harness/options.hpp"
#include "harness/record/line_reader.hpp"
#include "harness/record/where.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr double kRounding = 1e-9;  // of a projection's times, relative: each is a sum of a few products

void one_grid(Json& input) {
  if (!part(input, "grid").is_null()) return;
  Json grid = Json::object();
  for (const char* side : {"frames", "height", "width"}) {
    if (part(input, side).is_null()) return;
    grid[side] = input[side];
  }
  Json moved = Json::object();  // at the place of the sides
  for (const auto& [key, value] : input.items()) {
    if (key == "frames") moved["grid"] = grid;
    if (!grid.contains(key)) moved[key] = value;
  }
  input = std::move(moved);
}

/// All but attention, attention's calls, and the share of them that is sparse, from what they led to.
void add_projection_parts(const Json& input, const Json& timing, Json& metrics) {
  const auto number = [](const Json& object, const char* name) {
    const Json& value = part(object, name);
    return is_finite(value) ? value.get<double>() : std::nan("");
  };
  const auto model = paper_model(field_text(part(input, "shape")));
  const double dense_s = number(metrics, "projected_dense_s"), sparse_s = number(metrics, "projected_sparse_s");
  const double sparse_ms = number(timing, "median_ms");
  const double dense_ms = sparse_ms * number(metrics, "speedup_over_dense");
  if (!model || std::isnan(dense_s + sparse_s + dense_ms)) return;
  const double calls = static_cast<double>(model->layers * model->steps * model->passes);
  const double share = sparse_share(*model, DenseRule::first_quarter);
  const double saved_s = calls * share * (dense_ms - sparse_ms - number(metrics, "draft_ms")) * 1e-3;
  if (!(std::abs(dense_s - saved_s - sparse_s) <= kRounding * dense_s)) return;  // another projection's
  metrics["projected_other_s"] = dense_s - calls * dense_ms * 1e-3;
  metrics["projected_calls"] = calls;
  metrics["projected_sparse_share"] = share;
}

/// What the records of one timed run share: no two runs measure the same rate to the last digit.
Json run_of(const Json& record) {
  const Json &build = part(record, "build"), &machine = part(record, "machine");
  const Json& rate = part(part(record, "metrics"), "matmul_tflops");
  if (rate.is_null()) return nullptr;
  return fmt::format("{}{} {} {} {}", field_text(part(build, "commit")), part(build, "dirty") == true ? "+" : "",
                     field_text(part(machine, "gpu")), field_text(part(machine, "driver")), record_line(rate));
}

}  // namespace

Json version_2_of(Json record) {
  const Json run = run_of(record);
  Json made = Json::object();
  for (auto& [key, value] : record.items()) {
    made[key] = std::move(value);
    if (key == "experiment" && !run.is_null()) made["run"] = run;
  }
  made["schema"] = kRecordSchema;
  if (part(made, "metrics").is_null()) made["metrics"] = Json::object();
  for (const char* key : {"input", "config", "metrics"}) {
    if (!part(made, key).is_object()) return made;  // no record of any version
  }
  Json &input = made["input"], &config = made["config"];
  one_grid(input);
  if (part(input, "sha256").is_null() && part(input, "shape").is_string()) input["capture"] = nullptr;
  if (part(made, "experiment") == "flops") {
    for (const char* key : {"model", "resolution"}) {
      if (config.contains(key) && config[key] == part(input, key)) config.erase(key);
    }
  }
  if (part(made, "experiment") == "verify" && part(config, "policy") == "uneven") config["policy"] = "thirds";
  add_projection_parts(input, part(made, "timing"), made["metrics"]);
  return made;
}

void convert_records(const std::filesystem::path& from, const std::filesystem::path& to) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError(fmt::format("{}: records cannot be written here: {}", shown(to.string()), why));
  };
  if (is_compressed(to)) refuse("what is converted is not compressed: wanted a name without .gz");
  std::error_code none;
  if (std::filesystem::exists(std::filesystem::symlink_status(to, none))) refuse("wanted no such file, found one");
  std::filesystem::path partial = to;
  partial += ".partial";
  try {
    std::ofstream out(partial, std::ios::binary | std::ios::trunc);
    if (!out) refuse(std::strerror(errno));
    for_each_line(from, [&](int number, const std::string& line) {
      const Json object = parse_object(from, number, line);
      const bool is_first = part(object, "schema") == 1 && part(object, "schema").is_number_integer();
      const std::string text = is_first ? record_line(version_2_of(object)) : line;
      static_cast<void>(parse_record(from, number, text));
      if (!(out << text << '\n')) refuse(std::strerror(errno));
    });
    if (!out.flush()) refuse(std::strerror(errno));
    out.close();
    std::error_code failed;
    std::filesystem::rename(partial, to, failed);
    if (failed) refuse(failed.message());
  } catch (...) {
    std::filesystem::remove(partial, none);
    throw;
  }
}

namespace {

Action convert_options(CLI::App& command) {
  struct Files {
    std::string from, to;
  };
  const auto files = std::make_shared<Files>();
  require_file_name(command.add_option("OLD", files->from, "Records: JSON Lines")->type_name("")->required());
  require_file_name(command.add_option("--out", files->to, "The file to make")->type_name("FILE")->required());
  return [files] {
    convert_records(files->from, files->to);
    return kExitFine;
  };
}

}  // namespace

Command convert_command() {
  return {"convert", "Makes records of version 2 of those of version 1",
          nullptr,   "old.jsonl --out new.jsonl",
          false,     convert_options};
}

}  // namespace draft
