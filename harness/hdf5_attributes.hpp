#pragma once
// Reads the attributes of one HDF5 object, refusing what is missing or of another kind. Included by
// dump.cpp only. Strings may be of fixed or variable length, numbers of any width.

#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "harness/dump.hpp"
#include "harness/hdf5_handles.hpp"

namespace draft::hdf5 {

/// "int32", "float64 with 11 exponent bits", "string": what an HDF5 type is, for messages.
inline std::string describe_type(hid_t type) {
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

class AttributeReader {
 public:
  /// `object` is the name of `id` in messages.
  AttributeReader(std::filesystem::path file, std::string object, hid_t id)
      : file_(std::move(file)), object_(std::move(object)), id_(id) {}

  [[nodiscard]] bool has(const char* name) const { return H5Aexists(id_, name) > 0; }

  [[nodiscard]] std::string text(const char* name) const {
    const Found found = open(name, "a string", H5T_STRING, H5T_STRING);
    require_one(name, found, "one string");
    if (H5Tis_variable_str(found.type.id()) > 0) {
      char* characters = nullptr;
      if (H5Aread(found.attribute.id(), found.type.id(), &characters) < 0) refuse_unreadable(name);
      std::string value = characters == nullptr ? "" : characters;
      H5free_memory(characters);
      return value;
    }
    std::string value(H5Tget_size(found.type.id()), '\0');
    if (H5Aread(found.attribute.id(), found.type.id(), value.data()) < 0) refuse_unreadable(name);
    value.resize(strnlen(value.data(), value.size()));
    if (H5Tget_strpad(found.type.id()) == H5T_STR_SPACEPAD) value.resize(value.find_last_not_of(' ') + 1);
    return value;
  }

  [[nodiscard]] Index integer(const char* name) const {
    const Found found = open(name, "an integer", H5T_INTEGER, H5T_INTEGER);
    require_one(name, found, "one integer");
    return read<Index>(name, found, H5T_NATIVE_INT64).front();
  }

  [[nodiscard]] std::vector<Index> integers(const char* name) const {
    return read<Index>(name, open(name, "integers", H5T_INTEGER, H5T_INTEGER), H5T_NATIVE_INT64);
  }

  [[nodiscard]] double number(const char* name) const {
    const Found found = open(name, "a number", H5T_FLOAT, H5T_INTEGER);
    require_one(name, found, "one number");
    return read<double>(name, found, H5T_NATIVE_DOUBLE).front();
  }

  [[noreturn]] void refuse(const char* name, const std::string& wanted, const std::string& found) const {
    throw DumpError(file_, fmt::format("attribute '{}' of {}", name, object_), wanted, found);
  }

 private:
  struct Found {
    Attribute attribute;
    Type type;
    hssize_t count;
  };

  [[nodiscard]] Found open(const char* name, const char* wanted, H5T_class_t kind, H5T_class_t other_kind) const {
    if (!has(name)) refuse(name, wanted, "none");
    Attribute attribute(H5Aopen(id_, name, H5P_DEFAULT));
    Type type(H5Aget_type(attribute.id()));
    const Space space(H5Aget_space(attribute.id()));
    if (!attribute.ok() || !type.ok() || !space.ok()) refuse_unreadable(name);
    const H5T_class_t found = H5Tget_class(type.id());
    if (found != kind && found != other_kind) refuse(name, wanted, describe_type(type.id()));
    return {std::move(attribute), std::move(type), H5Sget_simple_extent_npoints(space.id())};
  }

  template <typename Number>
  [[nodiscard]] std::vector<Number> read(const char* name, const Found& found, hid_t memory_type) const {
    std::vector<Number> values(static_cast<std::size_t>(found.count));
    if (H5Aread(found.attribute.id(), memory_type, values.data()) < 0) refuse_unreadable(name);
    return values;
  }

  void require_one(const char* name, const Found& found, const char* wanted) const {
    if (found.count != 1) refuse(name, wanted, fmt::format("{} values", found.count));
  }

  [[noreturn]] void refuse_unreadable(const char* name) const { refuse(name, "a readable attribute", last_reason()); }

  std::filesystem::path file_;
  std::string object_;
  hid_t id_;
};

}  // namespace draft::hdf5
