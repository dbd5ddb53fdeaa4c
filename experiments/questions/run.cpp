// Question: all of them at once: theorems, pooling, region sizes and maps of a dump, from one study a head.
// Paper:    Theorems 3.3 and 3.5, Tables 4 and 5.
// Command:  draftbench run DUMP --out FILE.jsonl
// Output:   records "bounds", "pooling", "regions" and "maps".

#include "experiments/questions/questions.hpp"

namespace draft {

Command run_command() {
  return {"run",
          "Measures everything on a dump: bounds, pooling, regions and maps",
          "bounds, pooling, regions and maps from one study a head",
          "data/photodit_512p.h5 --out records.jsonl",
          false,
          [](CLI::App& command) {
            return study_command(command, {bounds_experiment, pooling_experiment, regions_experiment, maps_experiment});
          },
          true};
}

}  // namespace draft
