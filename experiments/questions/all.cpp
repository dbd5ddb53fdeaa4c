// Question: all of them at once: theorems, pooling, region sizes and maps of a dump, from one study a head.
// Paper:    Theorems 3.3 and 3.5, Tables 4 and 5.
// Command:  draftbench run DUMP --out FILE.jsonl
// Output:   records "bounds", "pooling", "regions" and "maps".

#include "experiments/questions/questions.hpp"
#include "experiments/study/maps.hpp"

namespace draft {

std::vector<StudyExperiment> all_experiments(const Options& options) {
  return {bounds_experiment(options), pooling_experiment(options), regions_experiment(options),
          maps_experiment(options)};
}

}  // namespace draft
