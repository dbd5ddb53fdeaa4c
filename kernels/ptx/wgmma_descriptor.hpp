#pragma once
// What wgmma is told of a matrix in shared memory: 64 bits. Plain arithmetic, so that the host can test it.

#include <cstdint>

#include "kernels/core/layout.hpp"

namespace draft::gpu {

/// In units of 16 bytes, as the descriptor's fields and the steps between them.
inline constexpr std::uint32_t kDescriptorUnit = 16;

/// A tile is slabs of 64 channels: 128 rows of 128 bytes, 128-byte swizzle, at an address divisible by 1024.
inline constexpr std::uint32_t kSlabBytes = 128 * 128;
inline constexpr std::uint32_t kEightRows = 8 * 128;  // bytes; the swizzle repeats after as many

/// Descriptor of a matrix under the 128-byte swizzle (PTX ISA, "Matrix descriptor format"): bits 0-13 address,
/// 16-29 leading offset, 32-45 stride offset, each divided by 16; 62-63 the swizzle, 1 for 128 bytes.
/// A matrix whose channels are summed over (Q, K): `leading` is not looked at, `stride` is from 8 rows to the next.
/// One whose rows are summed over (V): `leading` is from 64 channels to the next, `stride` from 8 rows to the next.
DRAFT_HOST_DEVICE constexpr std::uint64_t matrix_descriptor(std::uint32_t address, std::uint32_t leading,
                                                            std::uint32_t stride) {
  const auto field = [](std::uint32_t bytes) { return static_cast<std::uint64_t>(bytes / kDescriptorUnit & 0x3fff); };
  return field(address) | field(leading) << 16 | field(stride) << 32 | std::uint64_t{1} << 62;
}

/// To be added to the descriptor of Q or K for the 16 channels number `index`: 32 bytes on within a slab.
DRAFT_HOST_DEVICE constexpr std::uint64_t channel_step(int index) {
  return (index / 4 * kSlabBytes + index % 4 * 32) / kDescriptorUnit;
}
/// To be added to the descriptor of V for the 16 rows number `index`.
DRAFT_HOST_DEVICE constexpr std::uint64_t row_step(int index) { return index * 2 * kEightRows / kDescriptorUnit; }

/// Byte offset in a tile of the 16-byte chunk that holds channels 8 * chunk and up of a row.
DRAFT_HOST_DEVICE constexpr std::uint32_t swizzled_offset(int row, int chunk) {
  return chunk / 8 * kSlabBytes + row * 128 + ((chunk ^ row) & 7) * 16;
}

}  // namespace draft::gpu
