#pragma once
// Question: all of them at once: theorems, pooling, region sizes and maps of a dump, from one study a head.
// Paper:    Theorems 3.3 and 3.5, Tables 4 and 5.
// Command:  draftbench run DUMP --out FILE.jsonl
// Output:   records "bounds", "pooling", "regions" and "maps".

#include "experiments/study/run.hpp"

namespace draft {

CLI::App* add_run(CLI::App& parent, int& status);

}  // namespace draft
