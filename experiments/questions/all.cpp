#include "experiments/questions/all.hpp"

#include "experiments/questions/bounds.hpp"
#include "experiments/questions/pooling.hpp"
#include "experiments/questions/regions.hpp"
#include "experiments/study/maps.hpp"

namespace draft {

CLI::App* add_run(CLI::App& parent, int& status) {
  return add_study_command(parent, status, "run", "Measures everything on a dump: bounds, pooling, regions and maps",
                           "draftbench run data/minidit_512p.h5 --out records.jsonl", [](const Options& options) {
                             return std::vector<StudyExperiment>{bounds_experiment(options),
                                                                 pooling_experiment(options),
                                                                 regions_experiment(options), maps_experiment(options)};
                           });
}

}  // namespace draft
