#include "harness/dump/file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "harness/dump/hdf5_attributes.hpp"
#include "harness/dump/hdf5_links.hpp"
#include "harness/dump/rules.hpp"
#include "harness/dump/wire.hpp"

namespace draft {
namespace {

using namespace hdf5;

const AttributeReader::Names kRootAttributes = {"format", "version", "model",       "source", "frames",
                                                "height", "width",   "text_tokens", "causal"};
const AttributeReader::Names kCaptureAttributes = {"layer",  "step",   "timestep",      "steps",
                                                   "prompt", "branch", "softmax_scale", "model_heads"};

std::string capture_path(const std::string& name) { return "/captures/" + name; }

File open_file(const std::filesystem::path& path) {
  const htri_t is_hdf5 = H5Fis_hdf5(path.c_str());
  if (is_hdf5 < 0) throw DumpError(path, "file", "an HDF5 file", last_reason());
  if (is_hdf5 == 0) {
    std::error_code ignored;
    throw DumpError(path, "file", "an HDF5 file",
                    fmt::format("{} bytes of something else", std::filesystem::file_size(path, ignored)));
  }
  const Properties access(H5Pcreate(H5P_FILE_ACCESS));
  H5Pset_file_locking(access.id(), false, true);  // not needed to read, and locks fail on some shared file systems
  H5Pset_fclose_degree(access.id(), H5F_CLOSE_STRONG);
  File file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()));
  if (!file.ok()) {
    throw DumpError(path, "file", "a whole HDF5 file", "a truncated or damaged one: " + last_reason());
  }
  return file;
}

void require_shape(const DumpInfo& info, const std::string& path, const Shape& found, Index heads, const char* why) {
  const Shape wanted = {static_cast<hsize_t>(heads), static_cast<hsize_t>(info.grid.tokens()),
                        static_cast<hsize_t>(info.head_dim)};
  if (found == wanted) return;
  throw DumpError(info.path, path,
                  fmt::format("{} ({}; grid {})", hdf5::to_string(wanted), why, draft::to_string(info.grid)),
                  hdf5::to_string(found));
}

}  // namespace

DumpFile::DumpFile(const std::filesystem::path& path) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  info_.path = path;
  H5open();
  H5Lunregister(H5L_TYPE_EXTERNAL);  // so that HDF5 cannot follow a link to another file
  std::error_code ignored;
  bytes_ = std::filesystem::file_size(path, ignored);
  file_ = open_file(path);
  read_structure();
  // Some damage is only noticed when HDF5 closes the file. Closing it now finds that before anything is measured.
  contained::now_reading("file");
  if (!file_.reset()) throw DumpError(path, "file", "a file that can be closed", last_reason());
  file_ = open_file(path);
}

void DumpFile::read_structure() {
  contained::now_reading("attributes of /");
  const AttributeReader attributes(info_.path, "/", file_.id(), kRootAttributes);
  if (const std::string format = attributes.text("format"); format != kDumpFormat) {
    attributes.refuse("format", fmt::format("'{}'", kDumpFormat), fmt::format("'{}'", format));
  }
  info_.version = attributes.integer("version");
  if (info_.version < 1 || info_.version > kDumpVersion) {
    const char* newer = info_.version > kDumpVersion ? ", which is newer than this program" : "";
    attributes.refuse("version", fmt::format("1 to {}", kDumpVersion), fmt::format("{}{}", info_.version, newer));
  }
  info_.model = attributes.text("model");
  info_.source = attributes.text("source");
  const auto axis = [&](const char* name, Index least) {
    const Index found = attributes.integer(name);
    if (found >= least && found <= kLongestAxis) return found;
    attributes.refuse(name, fmt::format("{} to {}", least, kLongestAxis), fmt::format("{}", found));
  };
  info_.grid = {axis("frames", 1), axis("height", 1), axis("width", 1), axis("text_tokens", 0)};
  read_causal(attributes);
  read_captures();
}

void DumpFile::read_causal(const AttributeReader& attributes) {
  if (info_.version == 1) {  // readers of version 1 take such attributes for other names'
    if (attributes.has("causal")) attributes.refuse("causal", "none in version 1", "one");
    return;
  }
  const Index causal = attributes.integer("causal");
  if (causal != 0 && causal != 1) attributes.refuse("causal", "0 or 1", fmt::format("{}", causal));
  info_.grid.causal = causal == 1;
  if (info_.grid.causal && info_.grid.tokens() != info_.grid.width) {
    attributes.refuse("causal", "1 on one row of tokens alone", "it on " + draft::to_string(info_.grid));
  }
}

void DumpFile::read_captures() {
  contained::now_reading("/captures");
  require_hard_link(info_.path, file_.id(), "captures", "/captures", "a group", "a group");
  const Group captures(H5Gopen2(file_.id(), "captures", H5P_DEFAULT));
  if (!captures.ok()) throw DumpError(info_.path, "/captures", "a group", last_reason());
  H5G_info_t group;
  if (H5Gget_info(captures.id(), &group) < 0) throw DumpError(info_.path, "/captures", "a group", last_reason());
  if (group.nlinks > kMostCaptures) {
    throw DumpError(info_.path, "/captures", fmt::format("at most {} captures", kMostCaptures),
                    fmt::format("{}", group.nlinks));
  }
  if (group.nlinks == 0) throw DumpError(info_.path, "/captures", "at least one capture", "none");
  std::vector<std::string> names;
  const auto collect = [](hid_t, const char* name, const H5L_info_t*, void* into) -> herr_t {
    static_cast<std::vector<std::string>*>(into)->emplace_back(name);
    return 0;
  };
  const std::string wanted = fmt::format("{} readable names, each once", group.nlinks);
  if (H5Literate(captures.id(), H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &names) < 0) {
    throw DumpError(info_.path, "/captures", wanted, last_reason());
  }
  std::sort(names.begin(), names.end());
  if (names.size() != group.nlinks || std::adjacent_find(names.begin(), names.end()) != names.end()) {
    throw DumpError(info_.path, "/captures", wanted, fmt::format("{}", names.size()));
  }
  for (const std::string& name : names) {
    if (const char* fault = fault_of_name(name)) {
      throw DumpError(info_.path, capture_path(name), "a name of a group in UTF-8", fault);
    }
    read_capture(captures.id(), name);
  }
}

void DumpFile::read_capture(hid_t captures, const std::string& name) {
  const std::string path = capture_path(name);
  contained::now_reading(path);
  contained::allow(kReaderCapture, 0);
  require_hard_link(info_.path, captures, name, path, "a group", "a group");
  const Group group(H5Gopen2(captures, name.c_str(), H5P_DEFAULT));
  if (!group.ok()) throw DumpError(info_.path, path, "a group", last_reason());
  const AttributeReader attributes(info_.path, path, group.id(), kCaptureAttributes);
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
  text_bytes_ = text_bytes(info_.path, text_bytes_, capture);
  capture.has_output = link_exists(info_.path, group.id(), "o", path + "/o");
  check_tensors(group.id(), capture);

  if (attributes.has("model_heads")) {
    capture.model_heads = attributes.integers("model_heads", static_cast<std::size_t>(info_.heads), "one a head");
  }
  capture.softmax_scale = attributes.has("softmax_scale") ? attributes.number("softmax_scale")
                                                          : 1.0 / std::sqrt(static_cast<double>(info_.head_dim));
  if (!std::isfinite(capture.softmax_scale) || capture.softmax_scale <= 0) {
    attributes.refuse("softmax_scale", "a finite number above 0", fmt::format("{}", capture.softmax_scale));
  }
  info_.captures.push_back(std::move(capture));
}

/// Checks a capture's datasets against the grid and against earlier captures. The first capture determines heads,
/// kv_heads and head_dim.
void DumpFile::check_tensors(hid_t group, const CaptureInfo& capture) {
  const bool first = info_.heads == 0;
  for (const std::string name : {"q", "k", "v", "o"}) {
    if (name == "o" && !capture.has_output) continue;
    const std::string path = capture_path(capture.name) + "/" + name;
    const Tensor tensor(info_.path, bytes_, group, name, path);
    const auto heads = static_cast<Index>(tensor.shape()[0]);
    if (first && name == "q") {
      info_.heads = heads;
      info_.head_dim = static_cast<Index>(tensor.shape()[2]);
      info_.element = to_string(tensor.element());
    } else if (first && name == "k") {
      if (info_.heads % heads != 0) {
        throw DumpError(info_.path, path, fmt::format("a number of heads that divides q's {}", info_.heads),
                        fmt::format("{}", heads));
      }
      info_.kv_heads = heads;
    }
    const bool key_value = name == "k" || name == "v";
    const char* why = !first ? "as in the captures before" : name == "v" ? "as k" : "as q";
    require_shape(info_, path, tensor.shape(), key_value ? info_.kv_heads : info_.heads, why);
    if (to_string(tensor.element()) != info_.element) info_.element = "mixed";
  }
}

hdf5::Tensor DumpFile::tensor(Index capture, char dataset) const {
  const std::string path = capture_path(info_.captures.at(static_cast<std::size_t>(capture)).name);
  const Group group(H5Gopen2(file_.id(), path.c_str(), H5P_DEFAULT));
  if (!group.ok()) throw DumpError(info_.path, path, "a group", last_reason());
  return {info_.path, bytes_, group.id(), std::string(1, dataset), path + "/" + dataset};
}

void DumpFile::answer(const DumpRequest& request, AnswerSpace& space) const {
  if (request.capture < 0) {
    const std::string structure = to_wire(info_);
    std::memcpy(space.place(structure.size()), structure.data(), structure.size());
    return;
  }
  const Tensor opened = tensor(request.capture, request.dataset);
  opened.read_head(request.head, space);
}

}  // namespace draft
