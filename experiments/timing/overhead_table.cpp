#include "experiments/timing/overhead_table.hpp"

#include <fmt/format.h>

#include "experiments/input/masks.hpp"
#include "experiments/timing/table.hpp"
#include "harness/table.hpp"

namespace draft {

std::string overhead_text(const std::vector<Json>& records, Index done_before) {
  Table table({{"part", Align::left},
               {"kernel", Align::left},
               {"region", Align::left},
               {"mask", Align::left},
               {"sparsity"},
               {"ms"},
               {"p10 to p90"},
               {"of attention"},
               {"GB/s"},
               {"MHz"}});
  for (const Json& record : records) {
    if (record["status"] != "ok") continue;
    const Json& config = record["config"];
    table.add_row({config["part"], config["kernel"], region_text(config["region"]), mask_text(config),
                   number(config["sparsity"]), shown(record, "timing", "median_ms", 4), spread_text(record),
                   shown(record, "metrics", "share_of_attention"), shown(record, "metrics", "gb_per_s", 4),
                   shown(record, "machine", "sm_clock_after_mhz", 4)});
  }
  std::string text;
  if (!table.empty()) {
    text = call_text(records.front()) +
           "Parts are timed alone; draft: from pooling to lists as one piece. attention reads token order; "
           "attention_gather holds reorder and restore.\n" +
           table.text();
  }
  return text + notes_text(records, done_before);
}

void print_overhead(const std::vector<Json>& records, Index done_before) {
  fmt::print("{}\n", overhead_text(records, done_before));
}

}  // namespace draft
