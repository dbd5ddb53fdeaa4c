#include "harness/gpu.hpp"

#include <array>
#include <utility>

#include "harness/options.hpp"

#if defined(DRAFT_HAS_CUDA)
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <cmath>

#include "kernels/core/cuda_check.hpp"
#endif

namespace draft {

using nlohmann::ordered_json;

#if defined(DRAFT_HAS_CUDA)
namespace {

bool run_uses_gpu = false;
int gpu_place = 0;   // as choose_gpu() was told
int run_device = 0;  // CUDA's number of the GPU that this run uses

/// NVML, loaded at run time: it comes with the driver, not with the toolkit, and may be missing. The names and numbers
/// below are those of its documented, stable interface.
class Nvml {
 public:
  /// For the device at this PCI address.
  explicit Nvml(const char* pci_address) : library_(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL)) {
    const auto start = function<int (*)()>("nvmlInit_v2");
    started_ = start != nullptr && start() == 0;
    const auto find = function<int (*)(const char*, void**)>("nvmlDeviceGetHandleByPciBusId_v2");
    if (!started_ || find == nullptr || find(pci_address, &device_) != 0) device_ = nullptr;
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  ~Nvml() {
    if (started_) (void)function<int (*)()>("nvmlShutdown")();
    if (library_ != nullptr) (void)dlclose(library_);
  }

  [[nodiscard]] std::optional<std::string> driver() const {
    std::array<char, 96> version{};
    const auto ask = function<int (*)(char*, unsigned)>("nvmlSystemGetDriverVersion");
    if (device_ == nullptr || ask == nullptr || ask(version.data(), static_cast<unsigned>(version.size())) != 0)
      return {};
    return version.data();
  }

  [[nodiscard]] GpuState state() const {
    GpuState state;
    if (device_ == nullptr) return state;
    constexpr int kSmClock = 1;
    unsigned value = 0;
    unsigned long long bits = 0;
    const auto clock = function<int (*)(void*, int, unsigned*)>("nvmlDeviceGetClockInfo");
    if (clock != nullptr && clock(device_, kSmClock, &value) == 0) state.sm_clock_mhz = value;
    const auto power = function<int (*)(void*, unsigned*)>("nvmlDeviceGetPowerUsage");  // in mW
    if (power != nullptr && power(device_, &value) == 0) state.power_w = std::round(value / 100.0) / 10.0;
    const auto reasons = function<int (*)(void*, unsigned long long*)>("nvmlDeviceGetCurrentClocksThrottleReasons");
    if (reasons != nullptr && reasons(device_, &bits) == 0) state.throttle = bits;
    return state;
  }

 private:
  template <typename Function>
  [[nodiscard]] Function function(const char* name) const {
    return library_ == nullptr ? nullptr : reinterpret_cast<Function>(dlsym(library_, name));
  }

  void* library_;
  bool started_ = false;
  void* device_ = nullptr;
};

/// NVML for the GPU that this run uses, or null if it uses none.
const Nvml* nvml() {
  if (!run_uses_gpu) return nullptr;
  static const std::string address = [] {
    std::array<char, 32> text{};
    const bool found = cudaDeviceGetPCIBusId(text.data(), static_cast<int>(text.size()), run_device) == cudaSuccess;
    return std::string(found ? text.data() : "");
  }();
  static const Nvml nvml(address.c_str());
  return &nvml;
}

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
  int devices = 0;
  gpu::check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  run_device = gpu_place % devices;
  gpu::check(cudaSetDevice(run_device), "cudaSetDevice");
  gpu::check(cudaFree(nullptr), "creating a CUDA context");
  run_uses_gpu = true;
}

void choose_gpu(int place) { gpu_place = place; }

void use_gpu_in_thread() {
  if (run_uses_gpu) gpu::check(cudaSetDevice(run_device), "cudaSetDevice");
}

ordered_json gpu_info() {
  ordered_json info{{"gpu", nullptr}};
  if (!run_uses_gpu) return info;
  cudaDeviceProp device{};
  gpu::check(cudaGetDeviceProperties(&device, run_device), "cudaGetDeviceProperties");
  info["gpu"] = device.name;
  info["gpu_memory_gb"] = std::round(static_cast<double>(device.totalGlobalMem) / 1e8) / 10.0;
  info["compute_capability"] = fmt::format("{}.{}", device.major, device.minor);
  if (const auto driver = nvml()->driver()) info["driver"] = *driver;
  const GpuState now = gpu_state();
  if (now.sm_clock_mhz) info["sm_clock_mhz"] = *now.sm_clock_mhz;
  if (now.power_w) info["power_w"] = *now.power_w;
  return info;
}

GpuState gpu_state() { return nvml() == nullptr ? GpuState{} : nvml()->state(); }

ordered_json cuda_version() { return fmt::format("{}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10); }

#else

std::string why_no_gpu() {
  return "this build has no GPU kernels: when it was configured no CUDA compiler was found, or -DDRAFT_CUDA=OFF left them "
         "out (install the CUDA Toolkit 12 or newer and configure again)";
}
void require_gpu(const std::string& who) { throw UsageError(who + ": " + why_no_gpu()); }
void choose_gpu(int /*place*/) {}
void use_gpu_in_thread() {}
ordered_json gpu_info() { return {{"gpu", nullptr}}; }
GpuState gpu_state() { return {}; }
ordered_json cuda_version() { return nullptr; }

#endif

std::vector<std::string> throttle_names(std::uint64_t throttle) {
  static constexpr std::array<std::pair<std::uint64_t, const char*>, 8> kNames{{{0x2, "applications_clocks_setting"},
                                                                                {0x4, "sw_power_cap"},
                                                                                {0x8, "hw_slowdown"},
                                                                                {0x10, "sync_boost"},
                                                                                {0x20, "sw_thermal_slowdown"},
                                                                                {0x40, "hw_thermal_slowdown"},
                                                                                {0x80, "hw_power_brake_slowdown"},
                                                                                {0x100, "display_clock_setting"}}};
  throttle &= ~std::uint64_t{1};  // the bit for an idle GPU
  std::vector<std::string> names;
  for (const auto& [bit, name] : kNames) {
    if ((throttle & bit) != 0) names.emplace_back(name);
    throttle &= ~bit;
  }
  if (throttle != 0) names.emplace_back("unknown");
  return names;
}

bool is_hampered(std::uint64_t throttle) { return (throttle & (0x8 | 0x20 | 0x40 | 0x80)) != 0; }

}  // namespace draft
