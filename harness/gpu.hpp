#pragma once
// The GPU of this run: whether there is one, and what it is. Builds without a CUDA compiler have none.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace draft {

/// Makes the first visible GPU this thread's device and remembers that this run uses it. Throws UsageError, in
/// one line with `who` needs it and the cure where it is known, if the build has no kernels, no GPU is visible or its
/// driver is older than this build's CUDA runtime.
void require_gpu(const std::string& who = "--device cuda");

/// Why require_gpu() would throw, or "".
std::string why_no_gpu();

/// {"gpu": name, "gpu_memory_gb", "compute_capability", "driver", "sm_clock_mhz", "power_w"} of the GPU that this
/// run uses; {"gpu": null} if it uses none. The driver, the clock and the power as NVML tells them, left out
/// where it is not there; both are those of the moment.
nlohmann::ordered_json gpu_info();

/// What NVML tells of this run's GPU at one moment; what it does not tell is absent.
struct GpuState {
  std::optional<double> sm_clock_mhz, power_w;
  std::optional<std::uint64_t> throttle;  // NVML's bits of why the clocks are below their highest
};

/// Absent values all over if this run uses no GPU or NVML is not there.
GpuState gpu_state();

/// The bits' names, such as "sw_power_cap", in the order of the bits; "unknown" for bits without one. That the GPU
/// idles is no reason.
std::vector<std::string> throttle_names(std::uint64_t throttle);

/// Is one of the reasons heat or a brake of the hardware, other than the power cap that a busy GPU runs into?
bool is_hampered(std::uint64_t throttle);

/// The CUDA runtime that the kernels were built with, such as "13.0"; null without kernels.
nlohmann::ordered_json cuda_version();

}  // namespace draft
