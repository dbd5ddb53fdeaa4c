#include "experiments/study/sweeps.hpp"

#include <stdexcept>

#include "harness/gpu.hpp"

#if defined(DRAFT_HAS_CUDA)
#include "experiments/study/sweeps_gpu.hpp"
#endif

namespace draft {

std::unique_ptr<Sweeps> make_sweeps(const std::string& device) {
  if (device == "cpu") return make_reference_sweeps();
  require_gpu();
#if defined(DRAFT_HAS_CUDA)
  return make_gpu_sweeps();
#else
  throw std::logic_error("sweeps: a build without kernels found a GPU");
#endif
}

std::string sweeps_name(const std::string& device) { return device == "cpu" ? "reference" : "sweeps"; }

}  // namespace draft
