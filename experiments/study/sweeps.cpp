#include "experiments/study/sweeps.hpp"

#include "harness/gpu.hpp"

namespace draft {

std::unique_ptr<Sweeps> make_sweeps(const std::string& device) {
  if (device == "cpu") return make_reference_sweeps();
  require_gpu();
  return make_gpu_sweeps();
}

std::string sweeps_name(const std::string& device) { return device == "cpu" ? "reference" : "sweeps"; }

}  // namespace draft
