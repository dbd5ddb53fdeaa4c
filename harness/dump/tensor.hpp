#pragma once
// One dataset of a dump, [heads, tokens, head_dim]: the checks of its header, and reading one head's bytes.
// Internal to the dump's reader: included by file.hpp and tensor.cpp only.

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>

#include "harness/dump/hdf5_handles.hpp"
#include "harness/dump/process.hpp"
#include "harness/numbers/element.hpp"
#include "reference/problem.hpp"

namespace draft::hdf5 {

using Shape = std::array<hsize_t, 3>;  // [heads, tokens, head_dim]
std::string to_string(const Shape& shape);

/// A dataset that has passed every check that needs no reading of its numbers.
class Tensor {
 public:
  /// Opens the dataset `name` of a group; `path` is its name in messages. `file_bytes`: the file's size, against which
  /// the sizes in the header are checked. Throws DumpError.
  Tensor(const std::filesystem::path& file, std::uintmax_t file_bytes, hid_t group, const std::string& name,
         const std::string& path);

  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] Element element() const { return element_; }

  /// Reads one head, [tokens, head_dim], in the file's element type and this machine's byte order. Throws DumpError on
  /// an unreadable chunk.
  void read_head(Index head, AnswerSpace& space) const;

 private:
  void require_size(std::uintmax_t file_bytes) const;
  void require_plain_storage(const Properties& properties);
  void require_all_chunks(std::uintmax_t file_bytes) const;
  [[noreturn]] void refuse(const std::string& wanted, const std::string& found) const;

  std::filesystem::path file_;
  std::string path_;
  Dataset dataset_;
  Shape shape_{};
  Shape chunk_{};  // all 0: not chunked
  bool gzip_ = false;
  Element element_ = Element::float64;
};

}  // namespace draft::hdf5
