#pragma once
// CUDA's status codes as exceptions that say where, what and what to do; owners of device memory, streams and events.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace draft::gpu {

/// "file:line: call: CUDA's message (cure)".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws Error with the caller's file and line. `call` names the function that failed and its arguments.
[[noreturn]] inline void fail(const std::string& call, const std::string& message,
                              std::source_location where = std::source_location::current()) {
  throw Error(std::string(where.file_name()) + ":" + std::to_string(where.line()) + ": " + call + ": " + message);
}

/// Advice for the user about a status, in parentheses, or "".
inline std::string cure(cudaError_t status) {
  switch (status) {
    case cudaErrorNoDevice: return " (no GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES)";
    case cudaErrorInsufficientDriver:
      return " (no driver, or one older than this CUDA runtime: check nvidia-smi, update the driver)";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return " (not built for this GPU: configure with its architecture in DRAFT_CUDA_ARCHITECTURES)";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
      return " (raised by this or an earlier kernel: run under compute-sanitizer to find it)";
    case cudaErrorMemoryAllocation: {
      std::size_t free = 0, total = 0;
      if (cudaMemGetInfo(&free, &total) != cudaSuccess) return " (out of device memory)";
      return " (" + std::to_string(free) + " of " + std::to_string(total) +
             " bytes are free: use fewer heads or a smaller grid, or stop what else uses the GPU)";
    }
    default: return "";
  }
}

/// Throws Error unless `status` is cudaSuccess.
inline void check(cudaError_t status, const std::string& call,
                  std::source_location where = std::source_location::current()) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // so that the next check reports its own failure, not this one
  fail(call, std::string(cudaGetErrorName(status)) + ", " + cudaGetErrorString(status) + cure(status), where);
}

/// To be called after a kernel launch: throws Error for a bad configuration or a missing image. Errors inside the
/// kernel appear at a later call.
inline void check_launch(const char* kernel, std::source_location where = std::source_location::current()) {
  check(cudaGetLastError(), std::string("launch of ") + kernel, where);
}

/// Copies host memory to the device and waits. cudaMemcpy alone may return while the last bytes are still being copied
/// from a staging buffer; a stream that does not wait for the default stream would then read too early.
template <typename T>
void copy_to_device(T* to, std::span<const T> from, std::source_location where = std::source_location::current()) {
  check(cudaMemcpy(to, from.data(), from.size_bytes(), cudaMemcpyHostToDevice), "cudaMemcpy to the device", where);
  check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize", where);
}

/// Sets device memory to a byte and waits: cudaMemset alone may return before, and a stream that does not wait for the
/// default stream would then be overwritten.
inline void fill_bytes(void* memory, int byte, std::size_t bytes,
                       std::source_location where = std::source_location::current()) {
  check(cudaMemset(memory, byte, bytes), "cudaMemset", where);
  check(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize", where);
}

/// Owns `size()` elements of device memory, not initialised.
template <typename T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(std::size_t size, std::source_location where = std::source_location::current()) : size_(size) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes() == 0 ? 1 : bytes()), "cudaMalloc of " + std::to_string(bytes()) + " bytes",
          where);
    data_ = static_cast<T*>(memory);
  }
  explicit DeviceBuffer(std::span<const T> host, std::source_location where = std::source_location::current())
      : DeviceBuffer(host.size(), where) {
    upload(host, where);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~DeviceBuffer() { (void)cudaFree(data_); }

  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t bytes() const { return size_ * sizeof(T); }

  /// Copies all of `host`, which must have size() elements, and waits.
  void upload(std::span<const T> host, std::source_location where = std::source_location::current()) {
    if (host.size() != size_) {
      fail("upload", "wanted " + std::to_string(size_) + " elements, found " + std::to_string(host.size()), where);
    }
    copy_to_device(data_, host, where);
  }
  /// Waits for all work of the device and copies everything back.
  [[nodiscard]] std::vector<T> download(std::source_location where = std::source_location::current()) const {
    std::vector<T> host(size_);
    check(cudaDeviceSynchronize(), "cudaDeviceSynchronize", where);
    check(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy to the host", where);
    return host;
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Owns a stream that does not wait for the default stream.
class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { (void)cudaStreamDestroy(stream_); }
  [[nodiscard]] cudaStream_t get() const { return stream_; }
  void wait(std::source_location where = std::source_location::current()) const {
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize", where);
  }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Owns an event with timing.
class Event {
 public:
  Event() { check(cudaEventCreate(&event_), "cudaEventCreate"); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { (void)cudaEventDestroy(event_); }
  void record(cudaStream_t stream, std::source_location where = std::source_location::current()) const {
    check(cudaEventRecord(event_, stream), "cudaEventRecord", where);
  }
  /// Milliseconds from `earlier` to this event; both must be reached.
  [[nodiscard]] float since(const Event& earlier, std::source_location where = std::source_location::current()) const {
    float milliseconds = 0.0F;
    check(cudaEventElapsedTime(&milliseconds, earlier.event_, event_), "cudaEventElapsedTime", where);
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Compute capability of the current device: 80, 90, ...
int device_capability();

}  // namespace draft::gpu
