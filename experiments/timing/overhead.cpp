#include "experiments/timing/overhead.hpp"

#include <CLI/CLI.hpp>
#include <memory>

#include "experiments/input/command.hpp"

namespace draft {

double part_bytes(const std::string& part, const KeptCounts& counts, Index tokens, Index video, Index head_dim) {
  constexpr Index kElement = 2, kFloat = 4, kColumn = 2, kRow = 6;  // a row has a count and a place in the order
  const Index tensor = kElement * counts.heads * tokens * head_dim;
  const Index map = kFloat * counts.total_blocks();
  Index bytes = 0;
  if (part == "pool") {
    bytes = 2 * counts.heads * head_dim * (kElement * video + kFloat * counts.regions);
  }
  if (part == "select") bytes = map;
  if (part == "lists") bytes = map + kColumn * counts.kept_with_text() + kRow * counts.heads * counts.blocks();
  if (part == "reorder") bytes = 3 * 2 * tensor;
  if (part == "restore") bytes = 2 * tensor;
  return static_cast<double>(bytes);
}

namespace {

Action overhead_options(CLI::App& command) {
  const auto options = std::make_shared<TimedOptions>();
  add_timed_options(command, *options);
  return [options] { return overhead(*options); };
}

}  // namespace

Command overhead_command() {
  return {"overhead",
          "Times every part around the sparse attention on the GPU: draft, selection, lists, reordering",
          "every part around the sparse attention on the GPU",
          "data/photodit_512p.h5 --sparsity 0.9 --out overhead.jsonl",
          true,
          overhead_options};
}

}  // namespace draft
