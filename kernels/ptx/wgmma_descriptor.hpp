#pragma once
// The 64-bit descriptor by which wgmma addresses a matrix in shared memory. Plain arithmetic, so that the host can test
// it.

#include <cstdint>

#include "kernels/core/layout.hpp"

namespace draft::gpu {

/// The descriptor's fields, and the steps below, count in units of 16 bytes.
inline constexpr std::uint32_t kDescriptorUnit = 16;

/// A tile is slabs of 64 channels: 128 rows of 128 bytes, 128-byte swizzle, at an address divisible by 1024.
inline constexpr std::uint32_t kSlabBytes = 128 * 128;
inline constexpr std::uint32_t kEightRows = 8 * 128;  // bytes of 8 rows, after which the swizzle repeats

/// Descriptor of a matrix under the 128-byte swizzle (PTX ISA, "Matrix descriptor format"): bits 0-13 address,
/// 16-29 leading offset, 32-45 stride offset, each divided by 16; 62-63 the swizzle, 1 for 128 bytes.
/// If the product sums over the matrix's channels (Q, K): `leading` is ignored, `stride` is the bytes of 8 rows.
/// If it sums over the rows (V): `leading` is the bytes from one slab to the next, `stride` the bytes of 8 rows.
DRAFT_HOST_DEVICE constexpr std::uint64_t matrix_descriptor(std::uint32_t address, std::uint32_t leading,
                                                            std::uint32_t stride) {
  const auto field = [](std::uint32_t bytes) { return static_cast<std::uint64_t>(bytes / kDescriptorUnit & 0x3fff); };
  return field(address) | field(leading) << 16 | field(stride) << 32 | std::uint64_t{1} << 62;
}

/// Added to the descriptor of Q or K it selects channels 16 * index to 16 * index + 15: 32 bytes further within a slab.
DRAFT_HOST_DEVICE constexpr std::uint64_t channel_step(int index) {
  return (index / 4 * kSlabBytes + index % 4 * 32) / kDescriptorUnit;
}
/// Added to the descriptor of V it selects rows 16 * index to 16 * index + 15.
DRAFT_HOST_DEVICE constexpr std::uint64_t row_step(int index) { return index * 2 * kEightRows / kDescriptorUnit; }

/// Byte offset in a tile of a row's 16-byte chunk that holds channels 8 * chunk to 8 * chunk + 7.
DRAFT_HOST_DEVICE constexpr std::uint32_t swizzled_offset(int row, int chunk) {
  return chunk / 8 * kSlabBytes + row * 128 + ((chunk ^ row) & 7) * 16;
}

}  // namespace draft::gpu
