#include "harness/gpu.hpp"

#include "harness/options.hpp"

#if defined(DRAFT_HAS_CUDA)
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "kernels/cuda_check.hpp"
#endif

namespace draft {

using nlohmann::ordered_json;

#if defined(DRAFT_HAS_CUDA)
namespace {

bool run_uses_gpu = false;

/// NVML comes with the driver, not with the toolkit: found at run time or not at all. The names and numbers
/// below are those of its documented, stable interface.
class Nvml {
 public:
  Nvml() : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    const auto start = function<int (*)()>("nvmlInit_v2");
    started_ = start != nullptr && start() == 0;
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  ~Nvml() {
    if (started_) (void)function<int (*)()>("nvmlShutdown")();
    if (library_ != nullptr) (void)dlclose(library_);
  }

  /// Adds what NVML knows of the device at this PCI address.
  void describe(const std::string& pci_address, ordered_json& info) const {
    const auto find = function<int (*)(const char*, void**)>("nvmlDeviceGetHandleByPciBusId_v2");
    void* device = nullptr;
    if (!started_ || find == nullptr || find(pci_address.c_str(), &device) != 0) return;
    std::array<char, 96> version{};
    const auto driver = function<int (*)(char*, unsigned)>("nvmlSystemGetDriverVersion");
    if (driver != nullptr && driver(version.data(), static_cast<unsigned>(version.size())) == 0) {
      info["driver"] = version.data();
    }
    constexpr int kSmClock = 1;
    unsigned value = 0;
    const auto clock = function<int (*)(void*, int, unsigned*)>("nvmlDeviceGetClockInfo");
    if (clock != nullptr && clock(device, kSmClock, &value) == 0) info["sm_clock_mhz"] = value;
    const auto power = function<int (*)(void*, unsigned*)>("nvmlDeviceGetPowerUsage");  // in mW
    if (power != nullptr && power(device, &value) == 0) info["power_w"] = std::round(value / 100.0) / 10.0;
  }

 private:
  template <typename Function>
  [[nodiscard]] Function function(const char* name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(library_, name));
  }

  void* library_;
  bool started_ = false;
};

}  // namespace

std::string why_no_gpu() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess && devices > 0) return "";
  (void)cudaGetLastError();
  const std::string why = status == cudaSuccess ? "CUDA counts 0 devices" : cudaGetErrorString(status);
  return "no GPU: " + why + gpu::cure(status == cudaSuccess ? cudaErrorNoDevice : status);
}

void require_gpu(const std::string& who) {
  if (const std::string why = why_no_gpu(); !why.empty()) throw UsageError(who + ": " + why);
  gpu::check(cudaSetDevice(0), "cudaSetDevice(0)");
  gpu::check(cudaFree(nullptr), "creating a CUDA context");
  run_uses_gpu = true;
}

ordered_json gpu_info() {
  ordered_json info{{"gpu", nullptr}};
  if (!run_uses_gpu) return info;
  cudaDeviceProp device{};
  gpu::check(cudaGetDeviceProperties(&device, 0), "cudaGetDeviceProperties");
  info["gpu"] = device.name;
  info["gpu_memory_gb"] = std::round(static_cast<double>(device.totalGlobalMem) / 1e8) / 10.0;
  info["compute_capability"] = fmt::format("{}.{}", device.major, device.minor);
  std::array<char, 32> address{};
  if (cudaDeviceGetPCIBusId(address.data(), static_cast<int>(address.size()), 0) == cudaSuccess) {
    Nvml().describe(address.data(), info);
  }
  return info;
}

ordered_json cuda_version() { return fmt::format("{}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10); }

#else

std::string why_no_gpu() {
  return "this build has no GPU kernels: no CUDA compiler was found when it was configured (install the CUDA Toolkit 12 "
         "or newer and configure again)";
}
void require_gpu(const std::string& who) { throw UsageError(who + ": " + why_no_gpu()); }
ordered_json gpu_info() { return {{"gpu", nullptr}}; }
ordered_json cuda_version() { return nullptr; }

#endif

}  // namespace draft
