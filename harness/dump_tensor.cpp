#include "harness/dump_tensor.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <stdexcept>

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

void Tensor::read_selected(Index head, hid_t memory_type, void* numbers) const {
  const Shape start = {static_cast<hsize_t>(head), 0, 0};
  const Shape count = {1, shape_[1], shape_[2]};
  const Space selection(H5Dget_space(dataset_.id()));
  const Space memory(H5Screate_simple(3, count.data(), nullptr));
  H5Sselect_hyperslab(selection.id(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
  if (H5Dread(dataset_.id(), memory_type, memory.id(), selection.id(), H5P_DEFAULT, numbers) >= 0) return;
  // Here, because closing anything successfully clears the reason.
  throw DumpError(file_, fmt::format("{} head {}", path_, head), "readable chunks", last_reason());
}

std::vector<std::uint16_t> Tensor::read_bits(Index head) const {
  if (element_ != Element::float16 && element_ != Element::bfloat16) {
    throw std::invalid_argument("read_bits: wanted float16 or bfloat16, found " + draft::to_string(element_));
  }
  std::vector<std::uint16_t> bits(shape_[1] * shape_[2]);
  if (element_ == Element::float16) {
    read_selected(head, float16_type().id(), bits.data());
  } else {
    read_selected(head, H5T_NATIVE_UINT16, bits.data());
  }
  const std::uint16_t infinity = (element_ == Element::float16 ? kFloat16 : kBfloat16).infinity();
  const auto is_not_finite = [=](std::uint16_t own) { return (own & infinity) == infinity; };
  if (std::any_of(bits.begin(), bits.end(), is_not_finite)) {
    require_finite([&](Index i) { return from_bits(bits[static_cast<std::size_t>(i)], element_); }, head);
  }
  return bits;
}

Matrix Tensor::read_head(Index head) const {
  Matrix numbers(static_cast<Index>(shape_[1]), static_cast<Index>(shape_[2]));
  if (element_ == Element::float16 || element_ == Element::bfloat16) {
    const std::vector<std::uint16_t> bits = read_bits(head);
    std::transform(bits.begin(), bits.end(), numbers.data(), number_of(element_));
    return numbers;
  }
  if (element_ == Element::float32) {
    std::vector<float> stored(static_cast<std::size_t>(numbers.size()));
    read_selected(head, H5T_NATIVE_FLOAT, stored.data());
    std::copy(stored.begin(), stored.end(), numbers.data());
  } else {
    read_selected(head, H5T_NATIVE_DOUBLE, numbers.data());
  }
  require_finite([&](Index i) { return numbers.data()[i]; }, head);
  return numbers;
}

template <typename Number>
void Tensor::require_finite(Number number, Index head) const {
  const auto columns = static_cast<Index>(shape_[2]), size = static_cast<Index>(shape_[1]) * columns;
  Index bad = 0;
  Index first = 0;
  for (Index i = 0; i < size; ++i) {
    if (std::isfinite(number(i))) continue;
    if (bad++ == 0) first = i;
  }
  if (bad == 0) return;
  throw DumpError(file_, path_, "finite numbers",
                  fmt::format("{} NaN or infinite in head {}, the first, {}, at [{}, {}, {}]", bad, head, number(first),
                              head, first / columns, first % columns));
}

}  // namespace draft::hdf5
