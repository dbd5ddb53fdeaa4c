#include "experiments/timing/latency_table.hpp"

#include <fmt/format.h>

#include "experiments/input/masks.hpp"
#include "experiments/timing/table.hpp"
#include "harness/table.hpp"

namespace draft {

std::string latency_text(const std::vector<Json>& records, Index done_before) {
  Table table({{"kernel", Align::left},
               {"region", Align::left},
               {"order", Align::left},
               {"mask", Align::left},
               {"sparsity"},
               {"kept"},
               {"ms"},
               {"p10 to p90"},
               {"TFLOP/s kept"},
               {"of matmul"},
               {"speed-up"},
               {"ideal"},
               {"draft ms"},
               {"projected"},
               {"MHz"}});
  for (const Json& record : records) {
    if (record["status"] != "ok") continue;
    const Json& config = record["config"];
    const auto metric = [&](const char* name) { return shown(record, "metrics", name); };
    table.add_row({config["kernel"], region_text(config["region"]), config["order"], mask_text(config),
                   number(config["sparsity"]), metric("kept_share"), shown(record, "timing", "median_ms", 4),
                   spread_text(record), shown(record, "timing", "tflops_kept"), metric("share_of_matmul"),
                   metric("speedup_over_dense"), number(1.0 / record["metrics"]["kept_share"].get<double>(), 3),
                   metric("draft_ms"), metric("projected_speedup"), shown(record, "machine", "sm_clock_after_mhz", 4)});
  }
  std::string text;
  if (!table.empty()) {
    text = call_text(records.front()) +
           "Medians. of matmul: share of a large cuBLAS product's rate; ideal: all blocks by kept blocks; projected: "
           "speed-up of a whole video,\nwith the draft's time and everything but attention at the product's rate.\n" +
           table.text();
  }
  return text + notes_text(records, done_before);
}

void print_latency(const std::vector<Json>& records, Index done_before) {
  fmt::print("{}\n", latency_text(records, done_before));
}

}  // namespace draft
