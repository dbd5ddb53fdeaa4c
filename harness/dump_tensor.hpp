#pragma once
// One dataset of a dump, [heads, tokens, head_dim]: the checks of its header, and reading one head.
// Internal to the dump's reader: included by dump.cpp and dump_tensor.cpp only.

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "harness/element.hpp"
#include "harness/hdf5_handles.hpp"
#include "reference/problem.hpp"

namespace draft::hdf5 {

using Shape = std::array<hsize_t, 3>;  // [heads, tokens, head_dim]
std::string to_string(const Shape& shape);

/// A dataset that has passed every check that needs no reading of its numbers.
class Tensor {
 public:
  /// Opens the dataset `name` of a group; `path` is its name in messages. Throws DumpError.
  Tensor(const std::filesystem::path& file, hid_t group, const std::string& name, const std::string& path);

  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] Element element() const { return element_; }

  /// One head, [tokens, head_dim], as float64. Throws DumpError on an unreadable chunk, NaN or infinity.
  [[nodiscard]] Matrix read_head(Index head) const;
  /// The same as the file's own bits, row-major. Only of float16 and bfloat16; throws std::invalid_argument otherwise.
  [[nodiscard]] std::vector<std::uint16_t> read_bits(Index head) const;

 private:
  /// One head in this type. Throws DumpError on an unreadable chunk.
  void read_selected(Index head, hid_t memory_type, void* numbers) const;
  void require_plain_storage() const;
  /// `number(i)` is the i-th of the head's numbers.
  template <typename Number>
  void require_finite(Number number, Index head) const;

  std::filesystem::path file_;
  std::string path_;
  Dataset dataset_;
  Shape shape_{};
  Element element_ = Element::float64;
};

}  // namespace draft::hdf5
