#pragma once
// The numbers of one head as stored in a dump, and their conversion to matrices or bits.

#include <filesystem>
#include <string>
#include <vector>

#include "harness/numbers/element.hpp"
#include "reference/problem.hpp"

namespace draft {

/// A view of one head of one dataset, row-major [tokens, head_dim].
struct DumpHead {
  const std::filesystem::path& file;
  std::string path;  // of the dataset, in messages
  Index head;        // its index in the dataset, in messages
  const void* numbers;
  Element element;
  Index tokens, head_dim;

  /// As float64. Throws DumpError on NaN or infinity, or, with the number of bytes, if memory does not suffice.
  [[nodiscard]] Matrix matrix() const;
  /// The file's own bits, for float16 and bfloat16 alone; throws as matrix().
  [[nodiscard]] std::vector<std::uint16_t> bits() const;

 private:
  template <typename Stored, typename Decode>
  void copy(double* to, Decode decode) const;
  [[noreturn]] void refuse_memory(std::size_t bytes, const char* type) const;
  [[noreturn]] void refuse_numbers(const Matrix& decoded) const;
};

}  // namespace draft
