#include "harness/dump.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "harness/dump_tensor.hpp"
#include "harness/half_tensor.hpp"
#include "harness/hdf5_attributes.hpp"
#include "harness/hdf5_handles.hpp"

namespace draft {
namespace {

using namespace hdf5;

constexpr Index kLongestAxis = 1'000'000;  // of the grid: keeps the number of tokens far from overflow
constexpr std::size_t kLongestPart = 400;

/// Names and values of the file end up in messages of one line: control characters become '?'.
std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return std::iscntrl(c) != 0; }, '?');
  return text.size() <= kLongestPart ? text : text.substr(0, kLongestPart) + "...";
}

std::string capture_path(const std::string& name) { return "/captures/" + name; }

void require_shape(const DumpInfo& info, const std::string& path, const Shape& found, Index heads, const char* why) {
  const Shape wanted = {static_cast<hsize_t>(heads), static_cast<hsize_t>(info.grid.tokens()),
                        static_cast<hsize_t>(info.head_dim)};
  if (found == wanted) return;
  throw DumpError(info.path, path,
                  fmt::format("{} ({}; grid {})", hdf5::to_string(wanted), why, draft::to_string(info.grid)),
                  hdf5::to_string(found));
}

/// Checks a capture's datasets against the grid and against the captures before it. The first capture
/// settles heads, kv_heads and head_dim.
void check_tensors(DumpInfo& info, hid_t group, const CaptureInfo& capture) {
  const bool first = info.heads == 0;
  for (const std::string name : {"q", "k", "v", "o"}) {
    if (name == "o" && !capture.has_output) continue;
    const std::string path = capture_path(capture.name) + "/" + name;
    const Tensor tensor(info.path, group, name, path);
    const auto heads = static_cast<Index>(tensor.shape()[0]);
    if (first && name == "q") {
      info.heads = heads;
      info.head_dim = static_cast<Index>(tensor.shape()[2]);
      info.element = to_string(tensor.element());
    } else if (first && name == "k") {
      if (info.heads % heads != 0) {
        throw DumpError(info.path, path, fmt::format("a number of heads that divides q's {}", info.heads),
                        fmt::format("{}", heads));
      }
      info.kv_heads = heads;
    }
    const bool key_value = name == "k" || name == "v";
    const char* why = !first ? "as in the captures before" : name == "v" ? "as k" : "as q";
    require_shape(info, path, tensor.shape(), key_value ? info.kv_heads : info.heads, why);
    if (to_string(tensor.element()) != info.element) info.element = "mixed";
  }
}

CaptureInfo read_capture(DumpInfo& info, hid_t captures, const std::string& name) {
  const Group group(H5Gopen2(captures, name.c_str(), H5P_DEFAULT));
  if (!group.ok()) throw DumpError(info.path, capture_path(name), "a group", last_reason());
  const AttributeReader attributes(info.path, capture_path(name), group.id());
  CaptureInfo capture;
  capture.name = name;
  capture.layer = attributes.integer("layer");
  capture.step = attributes.integer("step");
  capture.timestep = attributes.number("timestep");
  if (!std::isfinite(capture.timestep)) {
    attributes.refuse("timestep", "a finite number", fmt::format("{}", capture.timestep));
  }
  if (attributes.has("steps")) capture.steps = attributes.integer("steps");
  if (attributes.has("prompt")) capture.prompt = attributes.text("prompt");
  if (attributes.has("branch")) capture.branch = attributes.text("branch");
  capture.has_output = H5Lexists(group.id(), "o", H5P_DEFAULT) > 0;
  check_tensors(info, group.id(), capture);

  if (attributes.has("model_heads")) {
    capture.model_heads = attributes.integers("model_heads");
    if (static_cast<Index>(capture.model_heads.size()) != info.heads) {
      attributes.refuse("model_heads", fmt::format("{} integers, one a head", info.heads),
                        fmt::format("{}", capture.model_heads.size()));
    }
  }
  capture.softmax_scale = attributes.has("softmax_scale") ? attributes.number("softmax_scale")
                                                          : 1.0 / std::sqrt(static_cast<double>(info.head_dim));
  if (!std::isfinite(capture.softmax_scale) || capture.softmax_scale <= 0) {
    attributes.refuse("softmax_scale", "a finite number above 0", fmt::format("{}", capture.softmax_scale));
  }
  return capture;
}

void read_captures(hid_t file, DumpInfo& info) {
  if (H5Lexists(file, "captures", H5P_DEFAULT) <= 0) throw DumpError(info.path, "/captures", "a group", "none");
  const Group captures(H5Gopen2(file, "captures", H5P_DEFAULT));
  if (!captures.ok()) throw DumpError(info.path, "/captures", "a group", last_reason());
  H5G_info_t group;
  if (H5Gget_info(captures.id(), &group) < 0) throw DumpError(info.path, "/captures", "a group", last_reason());
  if (group.nlinks == 0) throw DumpError(info.path, "/captures", "at least one capture", "none");
  for (hsize_t i = 0; i < group.nlinks; ++i) {
    const auto name_of = [&](char* name, std::size_t size) {
      return H5Lget_name_by_idx(captures.id(), ".", H5_INDEX_NAME, H5_ITER_INC, i, name, size, H5P_DEFAULT);
    };
    const auto length = name_of(nullptr, 0);
    if (length < 0) throw DumpError(info.path, "/captures", "readable names", last_reason());
    std::string name(static_cast<std::size_t>(length), '\0');
    name_of(name.data(), name.size() + 1);
    info.captures.push_back(read_capture(info, captures.id(), name));
  }
}

DumpInfo read_info(const std::filesystem::path& path, hid_t file) {
  const AttributeReader attributes(path, "/", file);
  DumpInfo info;
  info.path = path;
  if (const std::string format = attributes.text("format"); format != kDumpFormat) {
    attributes.refuse("format", fmt::format("'{}'", kDumpFormat), fmt::format("'{}'", format));
  }
  info.version = attributes.integer("version");
  if (info.version != kDumpVersion) {
    const char* newer = info.version > kDumpVersion ? ", which is newer than this program" : "";
    attributes.refuse("version", fmt::format("{}", kDumpVersion), fmt::format("{}{}", info.version, newer));
  }
  info.model = attributes.text("model");
  info.source = attributes.text("source");
  const auto axis = [&](const char* name, Index least) {
    const Index found = attributes.integer(name);
    if (found >= least && found <= kLongestAxis) return found;
    attributes.refuse(name, fmt::format("{} to {}", least, kLongestAxis), fmt::format("{}", found));
  };
  info.grid = {axis("frames", 1), axis("height", 1), axis("width", 1), axis("text_tokens", 0)};
  read_captures(file, info);
  return info;
}

File open_file(const std::filesystem::path& path) {
  std::error_code ignored;
  const auto refuse = [&](const std::string& found) { throw DumpError(path, "file", "an HDF5 file", found); };
  if (!std::filesystem::exists(path, ignored)) refuse("no such file");
  if (!std::filesystem::is_regular_file(path, ignored)) refuse("no regular file");
  const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
  if (is_hdf5 < 0) refuse(last_reason());
  if (is_hdf5 == 0) refuse(fmt::format("{} bytes of something else", std::filesystem::file_size(path, ignored)));
  const Properties access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_file_locking(access.id(), false, true);  // only read, and locks fail on some shared file systems
  H5Pset_fclose_degree(access.id(), H5F_CLOSE_STRONG);
  File file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()));
  if (!file.ok()) {
    throw DumpError(path, "file", "a whole HDF5 file", "a truncated or damaged one: " + last_reason());
  }
  return file;
}

}  // namespace

DumpError::DumpError(const std::filesystem::path& file, const std::string& object, const std::string& wanted,
                     const std::string& found)
    : UsageError(one_line(file.string()) + ": " + one_line(object) + ": wanted " + one_line(wanted) + ", found " +
                 one_line(found)) {}

const CaptureInfo& DumpInfo::capture(const std::string& name) const {
  for (const CaptureInfo& candidate : captures) {
    if (candidate.name == name) return candidate;
  }
  std::vector<std::string> names;
  for (const CaptureInfo& candidate : captures) names.push_back(candidate.name);
  throw UsageError(
      fmt::format("{}: capture: wanted one of {}, found '{}'", path.string(), fmt::join(names, ", "), name));
}

struct Dump::State {
  File file;
  DumpInfo info;

  /// reader(tensor, its head) of a query head's dataset.
  template <typename Reader>
  [[nodiscard]] auto with(const CaptureInfo& capture, const std::string& name, Index head, Reader reader) const {
    const QuietErrors quiet;
    if (head < 0 || head >= info.heads) {
      throw UsageError(fmt::format("{}: head: wanted 0 to {}, found {}", info.path.string(), info.heads - 1, head));
    }
    const std::string path = capture_path(info.capture(capture.name).name);
    const Group group(H5Gopen2(file.id(), path.c_str(), H5P_DEFAULT));
    const bool key_value = name == "k" || name == "v";
    return reader(Tensor(info.path, group.id(), name, path + "/" + name), key_value ? info.kv_head(head) : head);
  }
  [[nodiscard]] Matrix read(const CaptureInfo& capture, const std::string& name, Index head) const {
    return with(capture, name, head, [](const Tensor& tensor, Index own) { return tensor.read_head(own); });
  }
};

Dump::Dump(std::unique_ptr<State> state) : state_(std::move(state)) {}
Dump::Dump(Dump&&) noexcept = default;
Dump& Dump::operator=(Dump&&) noexcept = default;
Dump::~Dump() = default;

Dump Dump::open(const std::filesystem::path& path) {
  const QuietErrors quiet;
  File file = open_file(path);
  DumpInfo info = read_info(path, file.id());
  return Dump(std::make_unique<State>(State{std::move(file), std::move(info)}));
}

const DumpInfo& Dump::info() const { return state_->info; }

Problem Dump::load(const CaptureInfo& capture, Index head) const {
  const std::string source =
      fmt::format("{}:{} head {}", info().path.filename().string(), capture_path(capture.name), head);
  return {info().grid,
          state_->read(capture, "q", head),
          state_->read(capture, "k", head),
          state_->read(capture, "v", head),
          capture.softmax_scale,
          source};
}

Dump::HalfHead Dump::load_half(const CaptureInfo& capture, Index head, Element element) const {
  const auto read = [&](const std::string& name) {
    return state_->with(capture, name, head, [&](const Tensor& tensor, Index own) {
      if (tensor.element() == element) return tensor.read_bits(own);
      return to_bits(tensor.read_head(own), element, fmt::format("{} {} head {}", info().path.string(), name, head));
    });
  };
  return {read("q"), read("k"), read("v")};
}

std::optional<Matrix> Dump::load_output(const CaptureInfo& capture, Index head) const {
  if (!capture.has_output) return std::nullopt;
  return state_->read(capture, "o", head);
}

}  // namespace draft
