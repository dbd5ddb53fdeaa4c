#include "harness/dump_tensor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "harness/dump.hpp"
#include "harness/half_tensor.hpp"
#include "harness/hdf5_attributes.hpp"

namespace draft::hdf5 {
namespace {

/// The element of a dataset, if the format allows it.
std::optional<Element> element_of(hid_t type, const AttributeReader& attributes) {
  const H5T_class_t kind = H5Tget_class(type);
  if (kind == H5T_INTEGER && H5Tget_size(type) == 2 && H5Tget_sign(type) == H5T_SGN_NONE) {
    const bool marked = attributes.has("dtype") && attributes.text("dtype") == "bfloat16";
    return marked ? std::optional(Element::bfloat16) : std::nullopt;
  }
  if (kind != H5T_FLOAT) return std::nullopt;
  for (const Element element : {Element::float16, Element::float32, Element::float64}) {
    const Type wanted = storage_type(element);
    H5Tset_order(wanted.id(), H5Tget_order(type));  // either byte order will do
    if (H5Tequal(type, wanted.id()) > 0) return element;
  }
  return std::nullopt;
}

/// What a 16-bit element's bits stand for.
auto number_of(Element element) {
  return [numbers = all_numbers(element).data()](std::uint16_t bits) { return numbers[bits]; };
}

/// Reads the selection into `numbers` by way of a buffer of the stored type.
template <typename Stored, typename Decode>
bool read_through(hid_t dataset, hid_t memory_type, hid_t memory, hid_t selection, Matrix& numbers, Decode decode) {
  std::vector<Stored> buffer(static_cast<std::size_t>(numbers.size()));
  if (H5Dread(dataset, memory_type, memory, selection, H5P_DEFAULT, buffer.data()) < 0) return false;
  std::transform(buffer.begin(), buffer.end(), numbers.data(), decode);
  return true;
}

}  // namespace

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Tensor::Tensor(const std::filesystem::path& file, hid_t group, const std::string& name, const std::string& path)
    : file_(file), path_(path) {
  H5L_info_t link;
  if (H5Lexists(group, name.c_str(), H5P_DEFAULT) <= 0 || H5Lget_info(group, name.c_str(), &link, H5P_DEFAULT) < 0) {
    throw DumpError(file_, path_, "a dataset [heads, tokens, head_dim]", "none");
  }
  if (link.type == H5L_TYPE_EXTERNAL) throw DumpError(file_, path_, "a dataset in this file", "a link to another file");
  dataset_ = Dataset(H5Dopen2(group, name.c_str(), H5P_DEFAULT));
  if (!dataset_.ok()) throw DumpError(file_, path_, "a dataset [heads, tokens, head_dim]", last_reason());

  const Space space(H5Dget_space(dataset_.id()));
  const int rank = H5Sget_simple_extent_ndims(space.id());
  if (rank != 3) throw DumpError(file_, path_, "rank 3 [heads, tokens, head_dim]", fmt::format("rank {}", rank));
  H5Sget_simple_extent_dims(space.id(), shape_.data(), nullptr);
  if (std::count(shape_.begin(), shape_.end(), hsize_t{0}) > 0) {
    throw DumpError(file_, path_, "at least 1 along every axis", to_string(shape_));
  }

  const Type type(H5Dget_type(dataset_.id()));
  const std::optional<Element> element = element_of(type.id(), AttributeReader(file_, path_, dataset_.id()));
  if (!element) {
    const std::string found = describe_type(type.id());
    throw DumpError(file_, path_, "float16, float32, float64, or uint16 with attribute dtype = 'bfloat16'",
                    found == "uint16" ? "uint16 without that attribute" : found);
  }
  element_ = *element;
  require_plain_storage();
}

/// The numbers must lie in this file, all of them, and be readable by every HDF5.
void Tensor::require_plain_storage() const {
  const Properties properties(H5Dget_create_plist(dataset_.id()));
  for (int i = 0; i < H5Pget_nfilters(properties.id()); ++i) {
    std::array<char, 64> name{};
    std::size_t parameters = 0;
    const H5Z_filter_t filter = H5Pget_filter2(properties.id(), static_cast<unsigned>(i), nullptr, &parameters, nullptr,
                                               name.size() - 1, name.data(), nullptr);
    if (filter != H5Z_FILTER_DEFLATE && filter != H5Z_FILTER_SHUFFLE && filter != H5Z_FILTER_FLETCHER32) {
      throw DumpError(file_, path_, "no filter but shuffle, gzip and fletcher32",
                      fmt::format("filter {} '{}'", static_cast<int>(filter), name.data()));
    }
  }
  const H5D_layout_t layout = H5Pget_layout(properties.id());
  if (H5Pget_external_count(properties.id()) > 0 || layout == H5D_VIRTUAL) {
    throw DumpError(file_, path_, "numbers in this file", "numbers in another file");
  }
  if (layout == H5D_CONTIGUOUS && H5Dget_offset(dataset_.id()) == HADDR_UNDEF) {
    throw DumpError(file_, path_, "numbers", "none: they were never written");
  }
  if (layout != H5D_CHUNKED) return;
  Shape chunk{};
  H5Pget_chunk(properties.id(), static_cast<int>(chunk.size()), chunk.data());
  hsize_t wanted = 1;
  for (std::size_t axis = 0; axis < chunk.size(); ++axis) wanted *= (shape_[axis] + chunk[axis] - 1) / chunk[axis];
  hsize_t written = 0;
  const Space space(H5Dget_space(dataset_.id()));
  if (H5Dget_num_chunks(dataset_.id(), space.id(), &written) < 0) {
    throw DumpError(file_, path_, "a readable index of chunks", last_reason());
  }
  if (written != wanted) {
    throw DumpError(file_, path_, fmt::format("{} written chunks", wanted), fmt::format("{}", written));
  }
}

Matrix Tensor::read_head(Index head) const {
  const Shape start = {static_cast<hsize_t>(head), 0, 0};
  const Shape count = {1, shape_[1], shape_[2]};
  const Space selection(H5Dget_space(dataset_.id()));
  const Space memory(H5Screate_simple(3, count.data(), nullptr));
  H5Sselect_hyperslab(selection.id(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);

  Matrix numbers(static_cast<Index>(shape_[1]), static_cast<Index>(shape_[2]));
  const auto read = [&](auto stored, hid_t type, auto decode) {
    return read_through<decltype(stored)>(dataset_.id(), type, memory.id(), selection.id(), numbers, decode);
  };
  bool fine = false;
  switch (element_) {
    case Element::float16: fine = read(std::uint16_t{}, float16_type().id(), number_of(Element::float16)); break;
    case Element::bfloat16: fine = read(std::uint16_t{}, H5T_NATIVE_UINT16, number_of(Element::bfloat16)); break;
    case Element::float32:
      fine = read(float{}, H5T_NATIVE_FLOAT, [](float x) { return static_cast<double>(x); });
      break;
    case Element::float64:
      fine = H5Dread(dataset_.id(), H5T_NATIVE_DOUBLE, memory.id(), selection.id(), H5P_DEFAULT, numbers.data()) >= 0;
      break;
  }
  if (!fine) throw DumpError(file_, fmt::format("{} head {}", path_, head), "readable chunks", last_reason());
  require_finite(numbers, head);
  return numbers;
}

void Tensor::require_finite(const Matrix& numbers, Index head) const {
  Index bad = 0;
  Index first = 0;
  for (Index i = 0; i < numbers.size(); ++i) {
    if (std::isfinite(numbers.data()[i])) continue;
    if (bad++ == 0) first = i;
  }
  if (bad == 0) return;
  throw DumpError(file_, path_, "finite numbers",
                  fmt::format("{} NaN or infinite in head {}, the first, {}, at [{}, {}, {}]", bad, head,
                              numbers.data()[first], head, first / numbers.cols(), first % numbers.cols()));
}

}  // namespace draft::hdf5
