#pragma once
// Reads captured Q/K/V: one HDF5 file holds the captures of one run of one model (format version 1 or 2).

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/numbers/half_tensor.hpp"
#include "harness/options.hpp"
#include "reference/problem.hpp"

namespace draft {

inline constexpr const char* kDumpFormat = "draftattention-qkv";
inline constexpr Index kDumpVersion = 2;
/// The version that a writer gives a dump: the oldest whose readers know all that is in it.
inline Index dump_version(const Grid& grid) { return grid.causal ? 2 : 1; }

/// A dump that is refused: one line with the file, the object in it, what was wanted and what was found.
struct DumpError : UsageError {
  using UsageError::UsageError;  // from the whole line
  DumpError(const std::filesystem::path& file, const std::string& object, const std::string& wanted,
            const std::string& found);
};

/// One attention call: the attributes of the group /captures/<name>.
struct CaptureInfo {
  std::string name;
  Index layer = 0;
  Index step = 0;  // counted from the start of the schedule
  double timestep = 0.0;
  std::optional<Index> steps;  // length of the schedule
  std::optional<std::string> prompt;
  std::optional<std::string> branch;  // "cond", "uncond"
  double softmax_scale = 0.0;         // reading: 1/sqrt(head_dim) if the file has none; writing: 0 omits it
  std::vector<Index> model_heads;     // the model's own numbers of the heads; empty: not recorded
  bool has_output = false;            // whether the file has the model's own attention output
};

/// `before` plus the bytes of one more capture's texts. All captures' texts together may be no longer than one
/// attribute; throws DumpError if they are.
std::size_t text_bytes(const std::filesystem::path& file, std::size_t before, const CaptureInfo& capture);

/// A dump's structure and attributes. All captures share the grid and the shapes.
struct DumpInfo {
  std::filesystem::path path;
  Index version = 0;
  std::string model;
  std::string source;
  Grid grid;
  Index heads = 0;
  Index kv_heads = 0;  // a whole divisor of heads
  Index head_dim = 0;
  std::string element;                // "float16", "bfloat16", "float32", "float64"; "mixed" if datasets differ
  std::vector<CaptureInfo> captures;  // by name

  /// The K/V head that a query head attends to.
  [[nodiscard]] Index kv_head(Index head) const { return head / (heads / kv_heads); }
  /// Throws UsageError that lists the captures if there is none of that name.
  [[nodiscard]] const CaptureInfo& capture(const std::string& name) const;
  /// Its index in `captures`; throws likewise.
  [[nodiscard]] std::size_t place_of(const std::string& name) const;
};

/// The file's name for records and messages, with bytes that are not plain text escaped.
std::string file_name(const DumpInfo& info);

/// The version of the HDF5 library.
std::string hdf5_version();

/// An open dump. A separate process reads it (process.hpp). Must not be used from several threads at once.
class Dump {
 public:
  /// Checks everything but the numbers themselves, without reading them. Throws DumpError.
  static Dump open(const std::filesystem::path& path);

  Dump(Dump&&) noexcept;
  Dump& operator=(Dump&&) noexcept;
  ~Dump();

  [[nodiscard]] const DumpInfo& info() const;

  /// One head as float64: Q of `head`, K and V of its K/V head, each [tokens, head_dim]. Reads only these.
  /// Throws DumpError on an unreadable chunk or a NaN or infinity, UsageError on a head that is not there.
  [[nodiscard]] Problem load(const CaptureInfo& capture, Index head) const;

  /// The same as bits of a 16-bit element type, row-major: the file's own bits if it has that type, else rounded.
  /// Throws as load(), and UsageError if a number is too large for the type.
  [[nodiscard]] HalfHead load_half(const CaptureInfo& capture, Index head, Element element) const;
  /// The head that load_half() gave, as float64: load()'s where the file holds that type.
  [[nodiscard]] Problem problem_of(const CaptureInfo& capture, Index head, const HalfHead& bits) const;

  /// One tensor of a head, 'q', 'k' or 'v', as in load(), without using the memory of all three.
  [[nodiscard]] Matrix load_tensor(const CaptureInfo& capture, char dataset, Index head) const;

  /// The model's own dense attention output of one head, [tokens, head_dim], if the capture has it.
  [[nodiscard]] std::optional<Matrix> load_output(const CaptureInfo& capture, Index head) const;

 private:
  struct State;
  explicit Dump(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace draft
