#pragma once
// Question: none; makes dumps with known properties, for checks and for trying the program out.
// Command:  draftbench generate KIND --out FILE.h5
// Output:   a dump with one capture.

namespace CLI {
class App;
}

namespace draft {

/// The subcommand's callback writes the file; it throws UsageError and leaves nothing behind if it cannot.
CLI::App* add_generate(CLI::App& parent);

}  // namespace draft
