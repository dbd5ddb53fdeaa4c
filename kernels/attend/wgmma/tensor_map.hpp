#pragma once
// Tensor maps: TMA's description of a tensor. The driver encodes them; its function is looked up at run time, so that
// nothing links against libcuda.

#include <cuda.h>

#include <array>
#include <string>

#include "kernels/attend/wgmma/tile_box.hpp"
#include "reference/choices.hpp"

namespace draft::gpu {

/// The maps of one tensor of a call. A map that no block uses stays zero.
using TensorMaps = std::array<CUtensorMap, kTileMaps>;

/// The maps of `tensor`, [heads, tokens, head_dim] of these strides (require_strides) on the device and aligned to 16
/// bytes: boxes of 64 channels, 128-byte swizzle, zeros outside. Host work only. Throws Error that names the tensor,
/// the map and its extents if the driver refuses.
TensorMaps encode_maps(const std::string& name, const TileGrid& grid, Element element, const void* tensor,
                       const Strides& strides);

/// The map of the pooled rows of `layout`, [heads, regions, head_dim]: boxes of 128 rows, else as above.
CUtensorMap encode_pooled_map(const Layout& layout, Element element, const void* pooled);

}  // namespace draft::gpu
