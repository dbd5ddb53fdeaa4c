#pragma once
// Writes attributes of one HDF5 object. Included by writer.cpp only. Throws UsageError.

#include <fmt/format.h>

#include <string>

#include "harness/dump/hdf5_handles.hpp"
#include "harness/options.hpp"
#include "reference/problem.hpp"

namespace draft::hdf5 {

inline void write_attribute(hid_t object, const char* name, hid_t file_type, hid_t memory_type, hid_t space,
                            const void* value) {
  const Attribute attribute(H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT));
  if (!attribute.ok() || H5Awrite(attribute.id(), memory_type, value) < 0) {
    throw UsageError(fmt::format("attribute '{}' cannot be written: {}", name, last_reason()));
  }
}

inline void write_text(hid_t object, const char* name, const std::string& value) {
  const Type type(H5Tcopy(H5T_C_S1));
  H5Tset_size(type.id(), H5T_VARIABLE);
  H5Tset_cset(type.id(), H5T_CSET_UTF8);
  const Space scalar(H5Screate(H5S_SCALAR));
  const char* characters = value.c_str();
  write_attribute(object, name, type.id(), type.id(), scalar.id(), &characters);
}

inline void write_integer(hid_t object, const char* name, Index value) {
  const Space scalar(H5Screate(H5S_SCALAR));
  write_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, scalar.id(), &value);
}

inline void write_number(hid_t object, const char* name, double value) {
  const Space scalar(H5Screate(H5S_SCALAR));
  write_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, scalar.id(), &value);
}

}  // namespace draft::hdf5
