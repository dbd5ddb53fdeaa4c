// What builds without a CUDA compiler have in place of device/ and of all that needs a GPU. require_gpu() has refused
// before anything here but kernel_lines() is called.

#include <fmt/format.h>

#include <stdexcept>

#include "experiments/input/kernels.hpp"
#include "experiments/study/sweeps.hpp"
#include "experiments/timing/latency.hpp"
#include "experiments/timing/overhead.hpp"
#include "experiments/verify/verify.hpp"
#include "harness/gpu.hpp"

namespace draft {
namespace {

[[noreturn]] void fail() { throw std::logic_error("a build without kernels found a GPU"); }

}  // namespace

std::string kernel_lines() { return fmt::format("  none: {}\n", why_no_gpu()); }

std::unique_ptr<Sweeps> make_gpu_sweeps() { fail(); }
int latency(const LatencyOptions&) { fail(); }
int overhead(const TimedOptions&) { fail(); }
int verify(const VerifyOptions&) { fail(); }

}  // namespace draft
