#pragma once
// Writes a dump (format version 1, or 2 if it is causal) under a temporary name and renames it when it is complete.

#include <filesystem>
#include <memory>
#include <string>

#include "harness/dump/dump.hpp"
#include "harness/numbers/element.hpp"

namespace draft {

/// The root attributes.
struct DumpHeader {
  std::string model;
  std::string source;
  Grid grid;
};

/// The datasets of one capture: q and o are [heads, tokens, head_dim], k and v [kv_heads, tokens, head_dim].
struct CaptureLayout {
  Index heads = 0;
  Index kv_heads = 0;  // divides heads
  Index head_dim = 0;
  Element element = Element::float32;
  bool output = false;      // whether o is written
  int gzip = 4;             // level 1 to 9 after a byte shuffle; 0: neither
  bool fletcher32 = false;  // a checksum for each chunk
};

/// Must not be used while another thread uses HDF5.
class DumpWriter {
 public:
  /// Opens a temporary file beside `path`. An existing file at `path` stays as it is until finish(). Throws UsageError
  /// if the temporary file cannot be made or the header breaks a rule of the format.
  DumpWriter(const std::filesystem::path& path, const DumpHeader& header);
  DumpWriter(DumpWriter&&) noexcept;
  /// Without finish(): removes the temporary file.
  ~DumpWriter();

  /// Starts the next capture. All captures must have the same heads, kv_heads and head_dim. `capture.has_output` is
  /// ignored in favour of `layout.output`. Throws UsageError.
  void add_capture(const CaptureInfo& capture, const CaptureLayout& layout);

  /// Writes one head of the latest capture, each matrix [tokens, head_dim], rounded to the element type (nearest, ties
  /// to even). K and V are written with the first head of their group and ignored for its other heads. `o` must be
  /// given if and only if the layout has it. Throws UsageError on a wrong shape, NaN, infinity or a number too large
  /// for the element type.
  void write_head(Index head, const Matrix& q, const Matrix& k, const Matrix& v, const Matrix* o = nullptr);

  /// Closes the file and renames it to its name. Throws UsageError if there is no capture or a head was not written.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace draft
