#include "harness/dump/tensor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "harness/dump/dump.hpp"
#include "harness/dump/hdf5_attributes.hpp"
#include "harness/dump/hdf5_links.hpp"
#include "harness/dump/rules.hpp"

namespace draft::hdf5 {
namespace {

constexpr const char* kDataset = "a dataset [heads, tokens, head_dim]";

/// The element of a dataset, if the format allows it.
std::optional<Element> element_of(hid_t type, const AttributeReader& attributes) {
  const H5T_class_t kind = H5Tget_class(type);
  const bool marked = attributes.has("dtype");
  const std::string mark = marked ? attributes.text("dtype") : "";
  if (kind == H5T_INTEGER && H5Tget_size(type) == 2 && H5Tget_sign(type) == H5T_SGN_NONE) {
    return mark == "bfloat16" ? std::optional(Element::bfloat16) : std::nullopt;
  }
  if (kind != H5T_FLOAT) return std::nullopt;
  for (const Element element : {Element::float16, Element::float32, Element::float64}) {
    const Type wanted = storage_type(element);
    if (H5Tset_order(wanted.id(), H5Tget_order(type)) < 0) return std::nullopt;  // either byte order will do
    if (H5Tequal(type, wanted.id()) <= 0) continue;
    if (!marked || mark == draft::to_string(element)) return element;
  }
  return std::nullopt;
}

/// The HDF5 type of an element in this machine's memory.
Type memory_type(Element element) {
  switch (element) {
    case Element::bfloat16: return Type(H5Tcopy(H5T_NATIVE_UINT16));
    case Element::float32: return Type(H5Tcopy(H5T_NATIVE_FLOAT));
    case Element::float64: return Type(H5Tcopy(H5T_NATIVE_DOUBLE));
    default: return float16_type();
  }
}

/// a * b, or the largest number if that overflows: no file has so many bytes, so it is refused.
std::uint64_t product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t result = 0;
  return __builtin_mul_overflow(a, b, &result) ? std::numeric_limits<std::uint64_t>::max() : result;
}
std::uint64_t product(const Shape& shape) { return product(product(shape[0], shape[1]), shape[2]); }

}  // namespace

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

void Tensor::refuse(const std::string& wanted, const std::string& found) const {
  throw DumpError(file_, path_, wanted, found);
}

Tensor::Tensor(const std::filesystem::path& file, std::uintmax_t file_bytes, hid_t group, const std::string& name,
               const std::string& path)
    : file_(file), path_(path) {
  contained::now_reading(path_);
  require_hard_link(file_, group, name, path_, "a dataset", kDataset);
  dataset_ = Dataset(H5Dopen2(group, name.c_str(), H5P_DEFAULT));
  if (!dataset_.ok()) refuse(kDataset, last_reason());
  // Checked first, because asking a virtual dataset for its shape would open other files.
  const Properties properties(H5Dget_create_plist(dataset_.id()));
  if (!properties.ok()) refuse("readable properties", last_reason());
  if (H5Pget_layout(properties.id()) == H5D_VIRTUAL || H5Pget_external_count(properties.id()) != 0) {
    refuse("numbers in this file", "numbers in another file");
  }

  const Space space(H5Dget_space(dataset_.id()));
  const int rank = H5Sget_simple_extent_ndims(space.id());
  if (rank < 0) refuse("a readable shape", last_reason());
  if (rank != 3) refuse("rank 3 [heads, tokens, head_dim]", fmt::format("rank {}", rank));
  if (H5Sget_simple_extent_dims(space.id(), shape_.data(), nullptr) != 3) refuse("a readable shape", last_reason());
  if (std::count(shape_.begin(), shape_.end(), hsize_t{0}) > 0) {
    refuse("at least 1 along every axis", to_string(shape_));
  }
  const Type type(H5Dget_type(dataset_.id()));
  if (!type.ok()) refuse("a readable element type", last_reason());
  const AttributeReader attributes(file_, path_, dataset_.id(), {"dtype"});
  const std::optional<Element> element = element_of(type.id(), attributes);
  if (!element) {
    std::string found = describe_type(type.id());
    if (found == "uint16") {
      found += " without that attribute";
    } else if (attributes.has("dtype")) {
      found += fmt::format(" with attribute dtype = '{}'", attributes.text("dtype"));
    }
    refuse("float16, float32, float64, or uint16 with attribute dtype = 'bfloat16'", found);
  }
  element_ = *element;
  require_plain_storage(properties);
  require_size(file_bytes);
  if (chunk_[0] > 0) require_all_chunks(file_bytes);
}

/// Requires that the numbers are in this file and that every HDF5 library can read them.
void Tensor::require_plain_storage(const Properties& properties) {
  const int filters = H5Pget_nfilters(properties.id());
  if (filters < 0) refuse("readable filters", last_reason());
  for (int i = 0; i < filters; ++i) {
    std::array<char, 64> name{};
    std::size_t parameters = 0;
    const H5Z_filter_t filter = H5Pget_filter2(properties.id(), static_cast<unsigned>(i), nullptr, &parameters, nullptr,
                                               name.size() - 1, name.data(), nullptr);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32) {
      refuse("no filter but shuffle, gzip and fletcher32",
             fmt::format("filter {} '{}'", static_cast<int>(filter), name.data()));
    }
    gzip_ = gzip_ || filter == H5Z_FILTER_DEFLATE;
  }
  const H5D_layout_t layout = H5Pget_layout(properties.id());
  if (layout == H5D_CHUNKED) {
    const int rank = H5Pget_chunk(properties.id(), static_cast<int>(chunk_.size()), chunk_.data());
    if (rank != 3 || std::count(chunk_.begin(), chunk_.end(), hsize_t{0}) > 0) {
      refuse("chunks of rank 3", fmt::format("rank {}, {}", rank, to_string(chunk_)));
    }
  } else if (layout != H5D_CONTIGUOUS && layout != H5D_COMPACT) {
    refuse("a contiguous, compact or chunked layout", fmt::format("layout {}", static_cast<int>(layout)));
  } else if (layout == H5D_CONTIGUOUS && H5Dget_offset(dataset_.id()) == HADDR_UNDEF) {
    refuse("numbers", "none: they were never written");
  }
}

/// Requires that the file is large enough for the sizes in the header.
void Tensor::require_size(std::uintmax_t file_bytes) const {
  if (shape_[0] > kMostHeads) refuse(fmt::format("at most {} heads", kMostHeads), to_string(shape_));
  if (shape_[2] > kLargestHeadDim) refuse(fmt::format("a head_dim of at most {}", kLargestHeadDim), to_string(shape_));
  const std::uint64_t bytes = product(product(shape_), bytes_of(element_));
  const std::uint64_t piece = product(product(chunk_), bytes_of(element_));
  const std::uint64_t most = product(file_bytes, gzip_ && chunk_[0] > 0 ? kGzipAtMost : 1);
  const auto claims = [&](std::uint64_t found, const std::string& what) {
    const bool wraps = found == std::numeric_limits<std::uint64_t>::max();
    refuse(fmt::format("at most the {} bytes that a file of {} bytes can hold", most, file_bytes),
           fmt::format("{}, {} bytes", what, wraps ? "more than 2^64" : fmt::to_string(found)));
  };
  if (bytes > most) claims(bytes, to_string(shape_));
  if (piece > most) claims(piece, "chunks of " + to_string(chunk_));
  if (piece > kLargestChunk) {
    refuse(fmt::format("chunks of at most {} bytes", kLargestChunk),
           fmt::format("{}, {} bytes", to_string(chunk_), piece));
  }
  if (chunk_[0] > 0) return;
  const std::uint64_t stored = H5Dget_storage_size(dataset_.id());
  if (stored != bytes) refuse(fmt::format("{} bytes", bytes), fmt::format("{}", stored));
  const haddr_t offset = H5Dget_offset(dataset_.id());  // a compact dataset has none
  if (offset != HADDR_UNDEF && (offset > file_bytes || stored > file_bytes - offset)) {
    refuse(fmt::format("{} bytes within the file's {}", stored, file_bytes), fmt::format("them at byte {}", offset));
  }
}

/// Requires that all chunks exist: HDF5 would read zeros for one that was never written or is missing in the index.
void Tensor::require_all_chunks(std::uintmax_t file_bytes) const {
  Shape chunks{};
  for (std::size_t axis = 0; axis < chunk_.size(); ++axis) {
    chunks[axis] = shape_[axis] / chunk_[axis] + (shape_[axis] % chunk_[axis] == 0 ? 0 : 1);
  }
  const hsize_t wanted = product(chunks);  // cannot be large: at most the number of bytes
  hsize_t written = 0;
  const Space space(H5Dget_space(dataset_.id()));
  if (H5Dget_num_chunks(dataset_.id(), space.id(), &written) < 0) refuse("a readable index of chunks", last_reason());
  if (written != wanted) refuse(fmt::format("{} written chunks", wanted), fmt::format("{}", written));
  for (hsize_t i = 0; i < wanted; ++i) {
    const Shape at = {i / (chunks[1] * chunks[2]) * chunk_[0], i / chunks[2] % chunks[1] * chunk_[1],
                      i % chunks[2] * chunk_[2]};
    hsize_t bytes = 0;
    if (H5Dget_chunk_storage_size(dataset_.id(), at.data(), &bytes) < 0 || bytes == 0 || bytes > file_bytes) {
      refuse(fmt::format("a written chunk at {}", to_string(at)),
             bytes > file_bytes ? fmt::format("one of {} bytes in a file of {}", bytes, file_bytes) : "none");
    }
  }
}

void Tensor::read_head(Index head, AnswerSpace& space) const {
  const std::string object = fmt::format("{} head {}", path_, head);
  contained::now_reading(object);
  const auto place = static_cast<hsize_t>(head);
  const std::size_t bytes = shape_[1] * shape_[2] * bytes_of(element_);
  std::size_t decoded = bytes, piece = 0;
  if (chunk_[0] > 0) {
    piece = chunk_[0] * chunk_[1] * chunk_[2] * bytes_of(element_);
    decoded = (shape_[1] / chunk_[1] + 1) * (shape_[2] / chunk_[2] + 1) * piece;
  }
  void* numbers = space.place(bytes);
  space.kind = static_cast<int>(element_);
  contained::allow(decoded, piece);
  const Shape start = {place, 0, 0};
  const Shape count = {1, shape_[1], shape_[2]};
  const Space selection(H5Dget_space(dataset_.id()));
  const Space memory(H5Screate_simple(3, count.data(), nullptr));
  const Type type = memory_type(element_);
  if (H5Sselect_hyperslab(selection.id(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) >= 0 &&
      H5Dread(dataset_.id(), type.id(), memory.id(), selection.id(), H5P_DEFAULT, numbers) >= 0) {
    return;
  }
  // The reason is read now, because closing a handle successfully would clear it.
  throw DumpError(file_, object, "readable chunks", last_reason());
}

}  // namespace draft::hdf5
