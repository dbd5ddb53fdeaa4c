#include "harness/dump/hdf5_attributes.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "harness/dump/dump.hpp"
#include "harness/dump/rules.hpp"
#include "harness/text.hpp"

namespace draft::hdf5 {
namespace {

constexpr const char* kNoAttribute = "no attribute has this name";

hsize_t attribute_count(hid_t id) {
#if H5_VERSION_GE(1, 12, 0)
  H5O_info2_t info;
  return H5Oget_info3(id, &info, H5O_INFO_NUM_ATTRS) < 0 ? 0 : info.num_attrs;
#else
  H5O_info_t info;
  return H5Oget_info2(id, &info, H5O_INFO_NUM_ATTRS) < 0 ? 0 : info.num_attrs;
#endif
}

}  // namespace

std::string describe_type(hid_t type) {
  const std::size_t bits = 8 * H5Tget_size(type);
  switch (H5Tget_class(type)) {
    case H5T_INTEGER: return fmt::format("{}int{}", H5Tget_sign(type) == H5T_SGN_NONE ? "u" : "", bits);
    case H5T_FLOAT: {
      std::size_t exponent_bits = 0;
      H5Tget_fields(type, nullptr, nullptr, &exponent_bits, nullptr, nullptr);
      return fmt::format("float{} with {} exponent bits", bits, exponent_bits);
    }
    case H5T_STRING: return "string";
    case H5T_COMPOUND: return "compound";
    case H5T_ENUM: return "enum";
    default: return "another type";
  }
}

AttributeReader::AttributeReader(std::filesystem::path file, std::string object, hid_t id, const Names& known)
    : file_(std::move(file)), object_(std::move(object)), id_(id) {
  // Asking for a name that does not exist makes HDF5 look at every attribute, so that a damaged one is found. Listing
  // them instead would crash on damaged ones (HDF5 1.10.8).
  if (H5Aexists(id_, kNoAttribute) < 0) refuse_list(known);
  std::vector<std::string> found;
  const auto collect = [](hid_t, const char* name, const H5A_info_t*, void* names) -> herr_t {
    static_cast<std::vector<std::string>*>(names)->emplace_back(name);
    return 0;
  };
  if (H5Aiterate2(id_, H5_INDEX_NAME, H5_ITER_INC, nullptr, collect, &found) < 0) refuse_list(known);
  const hsize_t count = attribute_count(id_);
  if (found.size() != count) {
    throw DumpError(file_, "attributes of " + object_, fmt::format("{} readable ones", count),
                    fmt::format("{}", found.size()));
  }
  hsize_t bytes = 0;
  for (const std::string& name : found) {
    const Attribute attribute(H5Aopen(id_, name.c_str(), H5P_DEFAULT));
    if (!attribute.ok()) refuse_unreadable(name);
    bytes += H5Aget_storage_size(attribute.id());
    if (bytes > kLargestAttribute) {
      throw DumpError(file_, "attributes of " + object_, fmt::format("at most {} bytes in all", kLargestAttribute),
                      fmt::format("{} up to '{}'", bytes, name));
    }
    if (!names_.insert(name).second) refuse(name, "one of each name", "two");
  }
}

std::string AttributeReader::text(const char* name) const {
  const Found found = open(name, "a string", H5T_STRING, H5T_STRING);
  require_count(name, found, 1, "one string");
  std::string value;
  const htri_t is_variable = H5Tis_variable_str(found.type.id());
  if (is_variable < 0) refuse_unreadable(name);
  if (is_variable > 0) {
    char* characters = nullptr;
    if (H5Aread(found.attribute.id(), found.type.id(), &characters) < 0) refuse_unreadable(name);
    value = characters == nullptr ? "" : characters;
    H5free_memory(characters);
  } else {
    const std::size_t size = H5Tget_size(found.type.id());
    if (size == 0) refuse_unreadable(name);
    value.resize(size);
    if (H5Aread(found.attribute.id(), found.type.id(), value.data()) < 0) refuse_unreadable(name);
    switch (H5Tget_strpad(found.type.id())) {
      case H5T_STR_NULLTERM: value.resize(std::min(value.find('\0'), value.size())); break;
      case H5T_STR_NULLPAD: value.resize(value.find_last_not_of('\0') + 1); break;
      case H5T_STR_SPACEPAD: value.resize(value.find_last_not_of(' ') + 1); break;
      default: refuse_unreadable(name);
    }
  }
  if (const char* fault = fault_of_text(value)) {
    refuse(name, "text in UTF-8 without NUL", fmt::format("{} in '{}'", fault, shown(value)));
  }
  return value;
}

Index AttributeReader::integer(const char* name) const {
  const Found found = open(name, "an integer", H5T_INTEGER, H5T_INTEGER);
  require_count(name, found, 1, "one integer");
  return read_integers(name, found).front();
}

std::vector<Index> AttributeReader::integers(const char* name, std::size_t count, const char* why) const {
  const Found found = open(name, "integers", H5T_INTEGER, H5T_INTEGER);
  if (found.count != static_cast<hssize_t>(count)) {
    refuse(name, fmt::format("{} integers, {}", count, why), fmt::format("{}", found.count));
  }
  return read_integers(name, found);
}

double AttributeReader::number(const char* name) const {
  const Found found = open(name, "a number", H5T_FLOAT, H5T_INTEGER);
  require_count(name, found, 1, "one number");
  double value = 0.0;
  if (H5Aread(found.attribute.id(), H5T_NATIVE_DOUBLE, &value) < 0) refuse_unreadable(name);
  return value;
}

std::vector<Index> AttributeReader::read_integers(const char* name, const Found& found) const {
  // HDF5 would silently clip a wider integer to the largest number that fits.
  if (H5Tget_size(found.type.id()) > sizeof(Index)) {
    refuse(name, "an integer of at most 64 bits", describe_type(found.type.id()));
  }
  const bool is_unsigned = H5Tget_sign(found.type.id()) == H5T_SGN_NONE;
  std::vector<Index> values(static_cast<std::size_t>(found.count));
  if (H5Aread(found.attribute.id(), is_unsigned ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64, values.data()) < 0) {
    refuse_unreadable(name);
  }
  for (const Index value : values) {
    if (is_unsigned && value < 0) {
      refuse(name, fmt::format("an integer up to {}", std::numeric_limits<Index>::max()),
             fmt::format("{}", static_cast<std::uint64_t>(value)));
    }
  }
  return values;
}

AttributeReader::Found AttributeReader::open(const char* name, const char* wanted, H5T_class_t kind,
                                             H5T_class_t other_kind) const {
  if (!has(name)) refuse(name, wanted, "none");
  Attribute attribute(H5Aopen(id_, name, H5P_DEFAULT));
  Type type(H5Aget_type(attribute.id()));
  const Space space(H5Aget_space(attribute.id()));
  if (!attribute.ok() || !type.ok() || !space.ok()) refuse_unreadable(name);
  const H5T_class_t found = H5Tget_class(type.id());
  if (found != kind && found != other_kind) refuse(name, wanted, describe_type(type.id()));
  const hssize_t count = H5Sget_simple_extent_npoints(space.id());
  if (count < 0) refuse_unreadable(name);
  return {std::move(attribute), std::move(type), count};
}

void AttributeReader::require_count(const char* name, const Found& found, std::size_t count,
                                    const std::string& wanted) const {
  if (found.count != static_cast<hssize_t>(count)) refuse(name, wanted, fmt::format("{} values", found.count));
}

void AttributeReader::refuse(const std::string& name, const std::string& wanted, const std::string& found) const {
  throw DumpError(file_, fmt::format("attribute '{}' of {}", name, object_), wanted, found);
}

void AttributeReader::refuse_unreadable(const std::string& name) const {
  refuse(name, "a readable attribute", last_reason());
}

/// Refuses the object because an attribute is damaged: HDF5 then cannot tell whether the attributes after it exist.
void AttributeReader::refuse_list(const Names& known) const {
  const std::string reason = last_reason();
  std::vector<std::string> unknown;
  for (const char* name : known) {
    if (H5Aexists(id_, name) < 0) unknown.push_back(fmt::format("'{}'", name));
  }
  if (unknown.empty()) throw DumpError(file_, "attributes of " + object_, "readable ones", reason);
  throw DumpError(file_, fmt::format("attributes {} of {}", fmt::join(unknown, ", "), object_),
                  "readable attributes or none of that name", reason);
}

}  // namespace draft::hdf5
