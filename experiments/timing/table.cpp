#include "experiments/timing/table.hpp"

#include <fmt/format.h>

#include "experiments/input/masks.hpp"
#include "harness/table.hpp"

namespace draft {

std::string shown(const Json& record, const char* where, const char* name, int digits) {
  const Json& value = part(part(record, where), name);
  return value.is_number() ? number(value.get<double>(), digits) : "-";
}

std::string spread_text(const Json& record) {
  return shown(record, "timing", "p10_ms", 4) + " to " + shown(record, "timing", "p90_ms", 4);
}

std::string mask_text(const Json& config) {
  std::string policy = config["policy"];
  if (policy != "draft") return policy;
  return fmt::format("draft {} {}", config["pool"].get<std::string>(), config["rule"].get<std::string>());
}

std::string call_text(const Json& record) {
  const Json& input = record["input"];
  const auto extent = [&](const char* name) { return part(input, name).dump(); };
  const auto side = [&](const char* name) { return part(part(input, "grid"), name).dump(); };
  return fmt::format("One attention call: {} heads, {}x{}x{} + {} tokens, head_dim {}, {} data\n", extent("heads"),
                     side("frames"), side("height"), side("width"), extent("text_tokens"), extent("head_dim"),
                     input.value("data", "unknown"));
}

std::string notes_text(const std::vector<Json>& records, Index done_before) {
  std::string text;
  for (const Json& record : records) {
    if (record["status"] == "ok") continue;
    const Json& config = record["config"];
    const Json& part_name = part(config, "part");
    text += fmt::format("{}: {}{} in {} order, {}, region {}, sparsity {}: {}\n",
                        record["status"] == "skipped" ? "skipped" : "FAILED",
                        part_name.is_string() ? part_name.get<std::string>() + " of " : "",
                        config["kernel"].get<std::string>(), config["order"].get<std::string>(), mask_text(config),
                        region_text(config["region"]), number(config["sparsity"]), record.value("reason", ""));
  }
  if (done_before > 0)
    text += fmt::format("{} cells stood in the file already and were not timed again\n", done_before);
  return text;
}

}  // namespace draft
