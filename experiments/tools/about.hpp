#pragma once
// Question: on what machine, and by what build, would a run's records be made?
// Command: draftbench about [--device cuda]
// Output: one JSON object, {"machine": ..., "build": ...}, as every record has them.

namespace CLI {
class App;
}

namespace draft {

/// `about`: with --device cuda the machine includes the GPU. The callback throws UsageError if there is none.
CLI::App* add_about(CLI::App& parent);

}  // namespace draft
