#pragma once
// The HDF5 side of reading a dump: checks its structure and reads heads. Runs only in the process of process.hpp,
// because HDF5 crashes on some damaged files. format.md has the rules.

#include <filesystem>

#include "harness/dump/dump.hpp"
#include "harness/dump/hdf5_attributes.hpp"
#include "harness/dump/process.hpp"
#include "harness/dump/tensor.hpp"

namespace draft {

class DumpFile {
 public:
  /// Checks everything but the numbers. Throws DumpError.
  explicit DumpFile(const std::filesystem::path& path);

  [[nodiscard]] const DumpInfo& info() const { return info_; }
  /// A dataset of capture number `capture`. Throws DumpError.
  [[nodiscard]] hdf5::Tensor tensor(Index capture, char dataset) const;
  /// Answers a request: the structure as text, or one head's numbers in the dataset's element type.
  void answer(const DumpRequest& request, AnswerSpace& space) const;

 private:
  void read_structure();
  void read_causal(const hdf5::AttributeReader& attributes);
  void read_captures();
  void read_capture(hid_t captures, const std::string& name);
  void check_tensors(hid_t group, const CaptureInfo& capture);

  std::uintmax_t bytes_ = 0;  // of the file
  hdf5::File file_;
  std::size_t text_bytes_ = 0;  // bytes of the texts of all captures so far
  DumpInfo info_;
};

}  // namespace draft
