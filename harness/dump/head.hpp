#pragma once
// The numbers of one head as they came from a dump, and what the program makes of them.

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
  Index head;        // of the dataset, likewise
  const void* numbers;
  Element element;
  Index tokens, head_dim;

  /// As float64. Throws DumpError on NaN or infinity, or with the bytes where memory does not suffice.
  [[nodiscard]] Matrix matrix() const;
  /// The file's own bits. Only of float16 and bfloat16; throws as matrix().
  [[nodiscard]] std::vector<std::uint16_t> bits() const;

 private:
  template <typename Stored, typename Decode>
  void copy(double* to, Decode decode) const;
  [[noreturn]] void refuse_memory(std::size_t bytes, const char* type) const;
  [[noreturn]] void refuse_numbers(const Matrix& decoded) const;
};

}  // namespace draft
