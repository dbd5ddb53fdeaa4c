#include "harness/dump/writer.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

#include "harness/dump/dump.hpp"
#include "harness/dump/hdf5_attribute_writer.hpp"
#include "harness/dump/hdf5_handles.hpp"
#include "harness/dump/rules.hpp"

namespace draft {
namespace {

using namespace hdf5;

constexpr hsize_t kMostChunkTokens = 4096;
constexpr int kMostLinks = 40;  // Linux's own limit

/// A dataset that is being written, and which of its heads have been.
struct OpenTensor {
  std::string path;
  Dataset dataset;
  std::vector<bool> written;  // [heads]
};

/// The file to which a dump is written: `path`, or the end of a chain of links that starts there. An older dump or an
/// empty file may be replaced. Throws DumpError if anything else is there: another file, a folder, a device, a FIFO.
std::filesystem::path replaceable(const std::filesystem::path& path) {
  const auto refuse = [&](const std::string& what) {
    throw DumpError(path, "file", "a new file or a dump to replace", what);
  };
  std::error_code error;
  std::filesystem::path target = path;
  for (int links = 0; std::filesystem::is_symlink(target, error); ++links) {  // a dangling one too
    if (links == kMostLinks) refuse("links that lead nowhere");
    const std::filesystem::path next = std::filesystem::read_symlink(target, error);
    if (error) refuse("a link: " + error.message());
    target = next.is_absolute() ? next : target.parent_path() / next;
  }
  const std::filesystem::file_status found = std::filesystem::status(target, error);
  if (found.type() == std::filesystem::file_type::not_found) return target;
  if (!std::filesystem::exists(found)) refuse(error.message());
  if (!std::filesystem::is_regular_file(found)) refuse(is_directory(found) ? "a directory" : "no regular file");
  if (std::filesystem::is_empty(target, error)) return target;
  try {
    static_cast<void>(Dump::open(target));
  } catch (const UsageError&) {
    refuse("a file that is none");
  }
  return target;
}

/// Throws DumpError for an attribute that a reader would refuse.
void require_readable(const std::filesystem::path& path, const std::string& object, const CaptureInfo& capture) {
  const auto refuse = [&](const char* name, const char* wanted, const std::string& found) {
    throw DumpError(path, fmt::format("attribute '{}' of {}", name, object), wanted, found);
  };
  if (const char* fault = fault_of_name(capture.name)) {
    throw DumpError(path, object, "a name of a group in UTF-8", fault);
  }
  if (!std::isfinite(capture.timestep)) refuse("timestep", "a finite number", fmt::to_string(capture.timestep));
  if (!std::isfinite(capture.softmax_scale) || capture.softmax_scale < 0) {
    refuse("softmax_scale", "a finite number above 0", fmt::to_string(capture.softmax_scale));
  }
  for (const auto& [name, text] : {std::pair{"prompt", capture.prompt}, std::pair{"branch", capture.branch}}) {
    const char* fault = text ? fault_of_text(*text) : nullptr;
    if (fault != nullptr) refuse(name, "text in UTF-8 without NUL", fault);
  }
}

void write_capture_attributes(hid_t group, const CaptureInfo& capture) {
  write_integer(group, "layer", capture.layer);
  write_integer(group, "step", capture.step);
  write_number(group, "timestep", capture.timestep);
  if (capture.steps) write_integer(group, "steps", *capture.steps);
  if (capture.prompt) write_text(group, "prompt", *capture.prompt);
  if (capture.branch) write_text(group, "branch", *capture.branch);
  if (capture.softmax_scale != 0.0) write_number(group, "softmax_scale", capture.softmax_scale);
  if (!capture.model_heads.empty()) {
    const hsize_t count = capture.model_heads.size();
    const Space list(H5Screate_simple(1, &count, nullptr));
    write_attribute(group, "model_heads", H5T_STD_I64LE, H5T_NATIVE_INT64, list.id(), capture.model_heads.data());
  }
}

template <typename Stored, typename Encode>
herr_t write_through(hid_t dataset, hid_t type, hid_t memory, hid_t selection, const Matrix& numbers, Encode encode) {
  std::vector<Stored> buffer(static_cast<std::size_t>(numbers.size()));
  std::transform(numbers.data(), numbers.data() + numbers.size(), buffer.begin(), encode);
  return H5Dwrite(dataset, type, memory, selection, H5P_DEFAULT, buffer.data());
}

}  // namespace

struct DumpWriter::State {
  std::filesystem::path path, target, temporary;
  Grid grid;
  File file;
  Group captures;
  CaptureLayout layout;             // of the latest capture
  std::vector<OpenTensor> tensors;  // of the latest capture: q, k, v, perhaps o
  std::size_t added = 0;            // number of captures so far
  std::size_t text_bytes = 0;       // bytes of their texts

  ~State() {
    if (temporary.empty()) return;
    const QuietErrors quiet;
    tensors.clear();
    (void)captures.reset();
    (void)file.reset();
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
  }

  [[noreturn]] void refuse(const std::string& object, const std::string& wanted, const std::string& found) const {
    throw DumpError(path, object, wanted, found);
  }

  /// Tokens of a chunk: of one head, as many as a reader accepts in one chunk.
  [[nodiscard]] hsize_t chunk_tokens(const std::array<hsize_t, 3>& shape) const {
    const hsize_t most = kLargestChunk / (shape[2] * bytes_of(layout.element));
    return std::min({shape[1], kMostChunkTokens, std::max<hsize_t>(most, 1)});
  }

  OpenTensor create(hid_t group, const std::string& object, const std::string& name, Index heads) const {
    const std::array<hsize_t, 3> shape = {static_cast<hsize_t>(heads), static_cast<hsize_t>(grid.tokens()),
                                          static_cast<hsize_t>(layout.head_dim)};
    const std::array<hsize_t, 3> chunk = {1, chunk_tokens(shape), shape[2]};
    const Properties properties(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_chunk(properties.id(), 3, chunk.data());
    H5Pset_obj_track_times(properties.id(), false);  // no times in the file: the same numbers give the same bytes
    if (layout.gzip > 0) {
      H5Pset_shuffle(properties.id());
      H5Pset_deflate(properties.id(), static_cast<unsigned>(layout.gzip));
    }
    if (layout.fletcher32) H5Pset_fletcher32(properties.id());
    const Space space(H5Screate_simple(3, shape.data(), nullptr));
    const Type type = storage_type(layout.element);
    Dataset dataset(H5Dcreate2(group, name.c_str(), type.id(), space.id(), H5P_DEFAULT, properties.id(), H5P_DEFAULT));
    if (!dataset.ok()) refuse(object + "/" + name, "a new dataset", last_reason());
    if (layout.element == Element::bfloat16) write_text(dataset.id(), "dtype", "bfloat16");
    return {object + "/" + name, std::move(dataset), std::vector<bool>(static_cast<std::size_t>(heads))};
  }

  void require_storable(const OpenTensor& tensor, const Matrix& numbers, Index head) const {
    const std::string object = fmt::format("{} head {}", tensor.path, head);
    if (numbers.rows() != grid.tokens() || numbers.cols() != layout.head_dim) {
      refuse(object, fmt::format("[{}, {}]", grid.tokens(), layout.head_dim),
             fmt::format("[{}, {}]", numbers.rows(), numbers.cols()));
    }
    for (Index i = 0; i < numbers.size(); ++i) {
      if (!std::isfinite(rounded(numbers.data()[i], layout.element))) {
        refuse(object, "finite numbers within " + to_string(layout.element),
               fmt::format("{} at [{}, {}]", numbers.data()[i], i / numbers.cols(), i % numbers.cols()));
      }
    }
  }

  void write(OpenTensor& tensor, Index head, const Matrix& numbers) const {
    require_storable(tensor, numbers, head);
    const std::array<hsize_t, 3> start = {static_cast<hsize_t>(head), 0, 0};
    const std::array<hsize_t, 3> count = {1, static_cast<hsize_t>(numbers.rows()),
                                          static_cast<hsize_t>(numbers.cols())};
    const Space selection(H5Dget_space(tensor.dataset.id()));
    H5Sselect_hyperslab(selection.id(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
    const Space memory(H5Screate_simple(3, count.data(), nullptr));
    const auto store = [&](auto stored, hid_t type, auto encode) {
      return write_through<decltype(stored)>(tensor.dataset.id(), type, memory.id(), selection.id(), numbers, encode);
    };
    herr_t status = -1;
    switch (layout.element) {
      case Element::float16: status = store(std::uint16_t{}, float16_type().id(), to_float16); break;
      case Element::bfloat16: status = store(std::uint16_t{}, H5T_NATIVE_UINT16, to_bfloat16); break;
      case Element::float32:
        status = store(float{}, H5T_NATIVE_FLOAT, [](double x) { return static_cast<float>(x); });
        break;
      case Element::float64: status = store(double{}, H5T_NATIVE_DOUBLE, [](double x) { return x; }); break;
    }
    if (status < 0) refuse(fmt::format("{} head {}", tensor.path, head), "to write", last_reason());
    tensor.written[static_cast<std::size_t>(head)] = true;
  }

  /// Every head of the latest capture must be there before the next begins.
  void require_written() const {
    for (const OpenTensor& tensor : tensors) {
      const auto found = std::count(tensor.written.begin(), tensor.written.end(), true);
      if (found != static_cast<Index>(tensor.written.size())) {
        refuse(tensor.path, fmt::format("{} heads written", tensor.written.size()), fmt::format("{}", found));
      }
    }
  }
};

DumpWriter::DumpWriter(const std::filesystem::path& path, const DumpHeader& header)
    : state_(std::make_unique<State>()) {
  H5dont_atexit();  // after a full disk HDF5 would try to write again at exit, and crash
  const QuietErrors quiet;
  State& state = *state_;
  state.path = path;
  state.target = replaceable(path);
  state.grid = header.grid;
  try {
    require_valid(header.grid);
  } catch (const std::invalid_argument& error) {
    throw UsageError(path.string() + ": " + error.what());
  }
  const Grid& grid = header.grid;
  if (std::max({grid.frames, grid.height, grid.width, grid.text}) > kLongestAxis) {
    state.refuse("grid", fmt::format("axes of at most {}", kLongestAxis), to_string(grid));
  }
  for (const auto& [name, text] : {std::pair{"model", header.model}, std::pair{"source", header.source}}) {
    const char* fault = fault_of_text(text);
    if (fault != nullptr) state.refuse(fmt::format("attribute '{}' of /", name), "text in UTF-8 without NUL", fault);
  }
  const std::filesystem::path temporary = state.target.string() + fmt::format(".partial-{}", getpid());
  const Properties access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_fclose_degree(access.id(), H5F_CLOSE_STRONG);
  H5Pset_file_locking(access.id(), false, true);
  if (!std::ofstream(temporary)) state.refuse("file", "to write here", std::strerror(errno));
  state.temporary = temporary;
  state.file = File(H5Fcreate(temporary.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access.id()));
  if (!state.file.ok()) state.refuse("file", "to write here", last_reason());
  write_text(state.file.id(), "format", kDumpFormat);
  write_integer(state.file.id(), "version", dump_version(grid));
  write_text(state.file.id(), "model", header.model);
  write_text(state.file.id(), "source", header.source);
  write_integer(state.file.id(), "frames", header.grid.frames);
  write_integer(state.file.id(), "height", header.grid.height);
  write_integer(state.file.id(), "width", header.grid.width);
  write_integer(state.file.id(), "text_tokens", header.grid.text);
  if (grid.causal) write_integer(state.file.id(), "causal", 1);
  state.captures = Group(H5Gcreate2(state.file.id(), "captures", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}

DumpWriter::DumpWriter(DumpWriter&&) noexcept = default;
DumpWriter::~DumpWriter() = default;

void DumpWriter::add_capture(const CaptureInfo& capture, const CaptureLayout& layout) {
  const QuietErrors quiet;
  State& state = *state_;
  const std::string object = "/captures/" + capture.name;
  state.require_written();
  require_readable(state.path, object, capture);
  state.text_bytes = text_bytes(state.path, state.text_bytes, capture);
  if (++state.added > kMostCaptures) {
    state.refuse("/captures", fmt::format("at most {} captures", kMostCaptures), "one more");
  }
  if (layout.heads > kMostHeads || layout.head_dim > kLargestHeadDim) {
    state.refuse(object, fmt::format("at most {} heads and a head_dim of at most {}", kMostHeads, kLargestHeadDim),
                 fmt::format("{}, {}", layout.heads, layout.head_dim));
  }
  if (layout.heads < 1 || layout.kv_heads < 1 || layout.head_dim < 1 || layout.heads % layout.kv_heads != 0) {
    state.refuse(object, "heads, kv_heads, head_dim of at least 1, kv_heads dividing heads",
                 fmt::format("{}, {}, {}", layout.heads, layout.kv_heads, layout.head_dim));
  }
  const CaptureLayout& before = state.layout;
  if (!state.tensors.empty() &&
      (layout.heads != before.heads || layout.kv_heads != before.kv_heads || layout.head_dim != before.head_dim)) {
    state.refuse(object,
                 fmt::format("heads, kv_heads, head_dim {}, {}, {} as in the captures before", before.heads,
                             before.kv_heads, before.head_dim),
                 fmt::format("{}, {}, {}", layout.heads, layout.kv_heads, layout.head_dim));
  }
  if (!capture.model_heads.empty() && static_cast<Index>(capture.model_heads.size()) != layout.heads) {
    state.refuse(object, fmt::format("{} model_heads", layout.heads), fmt::format("{}", capture.model_heads.size()));
  }
  const Group group(H5Gcreate2(state.captures.id(), capture.name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
  if (!group.ok()) state.refuse(object, "a new capture", last_reason());
  write_capture_attributes(group.id(), capture);
  state.layout = layout;
  state.tensors.clear();
  state.tensors.push_back(state.create(group.id(), object, "q", layout.heads));
  state.tensors.push_back(state.create(group.id(), object, "k", layout.kv_heads));
  state.tensors.push_back(state.create(group.id(), object, "v", layout.kv_heads));
  if (layout.output) state.tensors.push_back(state.create(group.id(), object, "o", layout.heads));
}

void DumpWriter::write_head(Index head, const Matrix& q, const Matrix& k, const Matrix& v, const Matrix* o) {
  const QuietErrors quiet;
  State& state = *state_;
  if (state.tensors.empty()) throw std::logic_error("DumpWriter: write_head before add_capture");
  if (head < 0 || head >= state.layout.heads) {
    state.refuse(state.tensors[0].path, fmt::format("head 0 to {}", state.layout.heads - 1), fmt::format("{}", head));
  }
  if ((o != nullptr) != state.layout.output) {
    throw std::logic_error("DumpWriter: o must be given exactly if the layout has it");
  }
  const Index group = state.layout.heads / state.layout.kv_heads;
  state.write(state.tensors[0], head, q);
  if (head % group == 0) {
    state.write(state.tensors[1], head / group, k);
    state.write(state.tensors[2], head / group, v);
  }
  if (o != nullptr) state.write(state.tensors[3], head, *o);
}

void DumpWriter::finish() {
  const QuietErrors quiet;
  State& state = *state_;
  if (state.tensors.empty()) state.refuse("/captures", "at least one capture", "none");
  state.require_written();
  state.tensors.clear();
  bool closed = state.captures.reset();
  closed = state.file.reset() && closed;
  if (!closed) state.refuse("file", "to write all of it", last_reason());
  std::error_code error;
  std::filesystem::rename(state.temporary, state.target, error);
  if (error) state.refuse("file", "to give it its name", error.message());
  state.temporary.clear();
}

}  // namespace draft
