#pragma once
// The GPU of this run: whether there is one, and what it is. Builds without CUDA have none.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace draft {

/// Makes the run's GPU this thread's device and remembers that this run uses it. Throws UsageError if the build
/// has no kernels, no GPU is visible or its driver is older than this build's CUDA runtime: one line that says `who`
/// needs the GPU and, if it is known, what to do.
void require_gpu(const std::string& who = "--device cuda");

/// To be called before require_gpu(): this run's GPU is the visible one at this place, counted round where there are
/// fewer; the first without this call.
void choose_gpu(int place);

/// Makes this run's GPU the current device of this thread, too. Nothing if the run uses none.
void use_gpu_in_thread();

/// "" if require_gpu() would succeed, else why it would throw.
std::string why_no_gpu();

/// {"gpu": name, "gpu_memory_gb", "compute_capability", "driver", "sm_clock_mhz", "power_w"} of the GPU that this
/// run uses; {"gpu": null} if it uses none. Driver, clock and power come from NVML and are left out without it; clock
/// and power are current values.
nlohmann::ordered_json gpu_info();

/// NVML's numbers for this run's GPU at one moment; absent if NVML does not report them.
struct GpuState {
  std::optional<double> sm_clock_mhz, power_w;
  std::optional<std::uint64_t> throttle;  // NVML's bits: reasons why the clock is below its maximum
};

/// The current state. All values are absent if this run uses no GPU or there is no NVML.
GpuState gpu_state();

/// The bits' names, such as "sw_power_cap", in the order of the bits; "unknown" for bits without a name. The bit for an
/// idle GPU is ignored.
std::vector<std::string> throttle_names(std::uint64_t throttle);

/// Whether a reason is heat or a hardware slowdown. The power cap, which every busy GPU reaches, does not count.
bool is_hampered(std::uint64_t throttle);

/// The CUDA runtime that the kernels were built with, such as "13.0"; null without kernels.
nlohmann::ordered_json cuda_version();

}  // namespace draft
