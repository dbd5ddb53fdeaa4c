// Checks on the host before a launch: layouts, pointers, and whether the device can run sm_90a code.

#include "kernels/core/arguments.hpp"

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/core/cuda_check.hpp"
#include "kernels/core/strided.hpp"

namespace draft::gpu {
namespace {

void require_within(const char* field, std::int64_t found, std::int64_t least, std::int64_t most) {
  if (found >= least && found <= most) return;
  throw std::invalid_argument(std::string("layout: ") + field + " must be from " + std::to_string(least) + " to " +
                              std::to_string(most) + ", found " + std::to_string(found));
}

}  // namespace

void require_valid(const Layout& layout) {
  constexpr std::int64_t kMostTokens = INT32_MAX;
  require_within("heads", layout.heads, 1, 65535);
  require_within("frames", layout.frames, 1, kMostTokens);
  require_within("height", layout.height, 1, kMostTokens);
  require_within("width", layout.width, 1, kMostTokens);
  require_within("text", layout.text, 0, kMostTokens);
  require_within("region height", layout.region_height, 1, 1 << 15);
  require_within("region width", layout.region_width, 1, 1 << 15);
  require_within("head_dim", layout.head_dim, 8, 2048);
  if (layout.head_dim % 8 != 0) {
    throw std::invalid_argument("layout: head_dim must be a multiple of 8, found " + std::to_string(layout.head_dim));
  }
  // Each product is checked before it becomes a factor of the next, so that none overflows 64 bits.
  const std::int64_t frame = static_cast<std::int64_t>(layout.height) * layout.width;
  require_within("tokens of a frame", frame, 1, kMostTokens);
  require_within("tokens", frame * layout.frames + layout.text, 1, kMostTokens);
  // token_at() divides by region_height * width, also where the region is taller than the frame.
  require_within("tokens of a row of regions", static_cast<std::int64_t>(layout.region_height) * layout.width, 1,
                 kMostTokens);
  const std::int64_t rows =
      (static_cast<std::int64_t>(layout.height) + layout.region_height - 1) / layout.region_height;
  const std::int64_t columns =
      (static_cast<std::int64_t>(layout.width) + layout.region_width - 1) / layout.region_width;
  const std::int64_t tokens = static_cast<std::int64_t>(layout.region_height) * layout.region_width;
  require_within("blocks", rows * columns * layout.frames + (layout.text + tokens - 1) / tokens, 1, kMostBlocks);
}

void require_aligned(const char* name, const void* pointer, std::size_t bytes) {
  if (pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0) return;
  throw std::invalid_argument(
      std::string(name) + ": wanted a device pointer aligned to " + std::to_string(bytes) + " bytes, found " +
      (pointer == nullptr ? "null" : std::to_string(reinterpret_cast<std::uintptr_t>(pointer))));
}

namespace {

[[noreturn]] void refuse_strides(const char* name, const std::string& wanted, const Strides& found) {
  throw std::invalid_argument(std::string(name) + ": wanted strides " + wanted + ", found " +
                              std::to_string(found.head) + " elements from head to head and " +
                              std::to_string(found.token) + " from token to token");
}

}  // namespace

void require_strides(const char* name, const Layout& layout, const Strides& strides) {
  constexpr std::int64_t kVector = 8;                                                        // elements of 16 bytes
  constexpr std::int64_t kMostToken = std::int64_t{1} << 31, kMost = std::int64_t{1} << 39;  // elements
  if (strides.head < layout.head_dim || strides.token < layout.head_dim) {
    refuse_strides(name, "of a row's " + std::to_string(layout.head_dim) + " elements at least", strides);
  }
  if (strides.head % kVector != 0 || strides.token % kVector != 0) {
    refuse_strides(name, "that are multiples of 16 bytes (8 elements)", strides);
  }
  if (strides.token >= kMostToken) refuse_strides(name, "below 2^32 bytes from token to token", strides);
  if (strides.head >= kMost || strides.token >= (kMost + layout.tokens() - 1) / layout.tokens()) {
    refuse_strides(name, "below 2^40 bytes from head to head and over a head's tokens", strides);
  }
}

void require_output_strides(const char* name, const Layout& layout, const Strides& strides) {
  require_strides(name, layout, strides);
  const bool heads_apart = strides.head >= strides.offset(0, layout.tokens() - 1) + layout.head_dim;
  const bool tokens_apart = strides.token >= strides.offset(layout.heads - 1, 0) + layout.head_dim;
  if (!heads_apart && !tokens_apart) refuse_strides(name, "by which no two rows overlap", strides);
}

void require_half(const char* name, Element element) {
  if (element == Element::bfloat16 || element == Element::float16) return;
  throw std::invalid_argument(std::string(name) + ": wanted bfloat16 or float16, found " + to_string(element));
}

int device_capability() {
  int device = 0, major = 0, minor = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "cudaDeviceGetAttribute");
  return 10 * major + minor;
}

bool built_for_sm90a() { return DRAFT_BUILT_FOR_SM90A != 0; }  // kernels/CMakeLists.txt
bool runs_sm90a() { return built_for_sm90a() && device_capability() == 90; }

std::string why_not_sm90a(int capability) {
  if (!built_for_sm90a()) return "this build holds no code for sm_90a (DRAFT_CUDA_ARCHITECTURES)";
  if (capability == 90) return "";
  return "needs compute capability 9.0, found " + std::to_string(capability / 10) + "." +
         std::to_string(capability % 10);
}

int multiprocessors() {
  int device = 0, count = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return count;
}

}  // namespace draft::gpu
