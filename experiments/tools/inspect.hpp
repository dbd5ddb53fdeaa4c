#pragma once
// Question: what does a dump hold, and is it sound?
// Command:  draftbench inspect DUMP [--capture NAMES] [--heads LIST] [--check]
// Output:   the header, a row for each capture, and the range of each head's numbers, on stdout.

namespace CLI {
class App;
}

namespace draft {

/// The subcommand's callback prints to stdout. It throws UsageError (DumpError on a refused dump).
CLI::App* add_inspect(CLI::App& parent);

}  // namespace draft
