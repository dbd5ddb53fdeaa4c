#include "kernels/attend/wgmma/tensor_map.hpp"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "kernels/core/cuda_check.hpp"

namespace draft::gpu {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
        "cudaGetDriverEntryPointByVersion of cuTensorMapEncodeTiled");
#else
  check(cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found),
        "cudaGetDriverEntryPoint of cuTensorMapEncodeTiled");
#endif
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    fail("cuTensorMapEncodeTiled", "wanted a driver of CUDA 12.0 or later that has it, found none");
  }
  return reinterpret_cast<Encode>(function);
}

template <typename T, std::size_t kCount>
std::string listed(const std::array<T, kCount>& numbers) {
  std::string text;
  for (const T number : numbers) text += (text.empty() ? "" : ", ") + std::to_string(number);
  return "(" + text + ")";
}

/// `name` is what an error calls the map.
CUtensorMap encode_map(const std::string& name, const MapShape& shape, Element element, const void* tensor) {
  static const Encode encode = find_encode();
  constexpr std::uint64_t kBytes = 2;  // of an element
  std::array<std::uint64_t, 4> strides{};
  for (std::size_t axis = 0; axis < strides.size(); ++axis) strides[axis] = shape.strides[axis] * kBytes;
  const std::array<std::uint32_t, 5> steps{1, 1, 1, 1, 1};
  const auto address = reinterpret_cast<std::uintptr_t>(tensor) + static_cast<std::uintptr_t>(shape.base) * kBytes;
  CUtensorMap map{};
  const CUresult status =
      encode(&map, element == Element::bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 5,
             reinterpret_cast<void*>(address), shape.sizes.data(), strides.data(), shape.box.data(), steps.data(),
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    fail("cuTensorMapEncodeTiled of " + name, "CUresult " + std::to_string(static_cast<int>(status)) + " for sizes " +
                                                  listed(shape.sizes) + ", byte strides " + listed(strides) + ", box " +
                                                  listed(shape.box) + ", address " + std::to_string(address));
  }
  return map;
}

}  // namespace

TensorMaps encode_maps(const std::string& name, const TileGrid& grid, Element element, const void* tensor,
                       const Strides& strides) {
  TensorMaps maps{};
  for (int map = 0; map < kTileMaps; ++map) {
    const MapShape shape = grid.shape(map, strides);
    if (shape.sizes[1] == 0) continue;
    maps[static_cast<std::size_t>(map)] = encode_map(name + "'s map " + std::to_string(map), shape, element, tensor);
  }
  return maps;
}

CUtensorMap encode_pooled_map(const Layout& layout, Element element, const void* pooled) {
  return encode_map("the pooled rows", pooled_shape(layout), element, pooled);
}

}  // namespace draft::gpu
