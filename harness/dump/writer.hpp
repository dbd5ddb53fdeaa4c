#pragma once
// Writes a dump (format version 1) under a temporary name and renames it when whole.

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
  Index kv_heads = 0;  // a whole divisor of heads
  Index head_dim = 0;
  Element element = Element::float32;
  bool output = false;      // o is written too
  int gzip = 4;             // level 1 to 9 after a byte shuffle; 0: neither
  bool fletcher32 = false;  // a checksum for each chunk
};

/// Not to be used while another thread uses HDF5.
class DumpWriter {
 public:
  /// Opens a temporary file beside `path`. Throws UsageError if it cannot be made or the header is no
  /// good. An existing file at `path` stays as it is until finish().
  DumpWriter(const std::filesystem::path& path, const DumpHeader& header);
  DumpWriter(DumpWriter&&) noexcept;
  /// Without finish(): removes the temporary file.
  ~DumpWriter();

  /// Starts the next capture. `has_output` of `capture` is ignored: the layout says it. All captures must
  /// have the same heads, kv_heads and head_dim. Throws UsageError.
  void add_capture(const CaptureInfo& capture, const CaptureLayout& layout);

  /// Writes one head of the latest capture, each matrix [tokens, head_dim], rounded to the element type
  /// (nearest, ties to even). K and V are stored with the first head of their group; for the group's
  /// other heads they are not looked at. `o` must be given exactly if the layout has it. Throws
  /// UsageError on a shape that does not fit and on NaN, infinity or a number too large for the element.
  void write_head(Index head, const Matrix& q, const Matrix& k, const Matrix& v, const Matrix* o = nullptr);

  /// Closes the file and gives it its name. Throws UsageError if there is no capture or a head was not written.
  void finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace draft
