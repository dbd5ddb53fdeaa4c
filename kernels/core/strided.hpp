#pragma once
// Where the rows of a [heads, tokens, head_dim] tensor stand if it is a view of a larger one, such as [tokens, heads,
// head_dim] or one part of a fused projection.

#include <cstdint>
#include <optional>
#include <type_traits>

#include "kernels/core/layout.hpp"

namespace draft::gpu {

/// Elements from a head to the next one and from a token to the next one. A row's head_dim numbers are consecutive.
struct Strides {
  std::int64_t head;
  std::int64_t token;

  static Strides contiguous(const Layout& layout) { return {layout.offset(1, 0), layout.offset(0, 1)}; }
  /// First element of a token's row.
  DRAFT_HOST_DEVICE std::int64_t offset(int at_head, int at_token) const { return at_head * head + at_token * token; }
  /// Bytes from a token to the next one, of elements of 16 bits. 32 bits, so that a token's row is one multiplication.
  DRAFT_HOST_DEVICE std::uint32_t token_bytes() const { return static_cast<std::uint32_t>(token * 2); }
  bool operator==(const Strides&) const = default;
};

/// The row of `token` in a head whose first row is `first`, given Strides::token_bytes().
template <typename T>
DRAFT_HOST_DEVICE T* row_of(T* first, std::uint32_t token_bytes, int token) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return reinterpret_cast<T*>(reinterpret_cast<Byte*>(first) +
                              static_cast<std::uint64_t>(static_cast<std::uint32_t>(token)) * token_bytes);
}

/// A tensor's own strides if it has any; without them it is contiguous.
inline Strides strides_of(const Layout& layout, const std::optional<Strides>& own) {
  return own.value_or(Strides::contiguous(layout));
}

/// Throws std::invalid_argument that says what was wanted of the strides of `name`, and what they are, unless for
/// elements of 16 bits both are multiples of 16 bytes from a row's length on, a token's is below 2^32 bytes, and a
/// head's and all tokens' together are below 2^40 bytes, the copy engine's limit.
void require_strides(const char* name, const Layout& layout, const Strides& strides);

/// The same for a tensor that is written to: its rows must not overlap either.
void require_output_strides(const char* name, const Layout& layout, const Strides& strides);

}  // namespace draft::gpu
