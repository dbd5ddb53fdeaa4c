#pragma once
// Checks of links. All objects of a dump must be reached by hard links: a soft or an external link may lead into
// another file, which this file's checksum does not cover. Included by the dump's reader only.

#include <fmt/format.h>

#include <filesystem>
#include <string>

#include "harness/dump/dump.hpp"
#include "harness/dump/hdf5_handles.hpp"

namespace draft::hdf5 {

/// Whether there is a link of that name; `path` is its name in messages. Throws DumpError if HDF5 cannot tell.
inline bool link_exists(const std::filesystem::path& file, hid_t group, const std::string& name,
                        const std::string& path) {
  const htri_t exists = H5Lexists(group, name.c_str(), H5P_DEFAULT);
  if (exists < 0) throw DumpError(file, path, "a readable link or none", last_reason());
  return exists > 0;
}

/// Throws DumpError unless there is a hard link of that name; `wanted` is what it should lead to, a `kind` of object.
inline void require_hard_link(const std::filesystem::path& file, hid_t group, const std::string& name,
                              const std::string& path, const std::string& kind, const std::string& wanted) {
  if (!link_exists(file, group, name, path)) throw DumpError(file, path, wanted, "none");
  H5L_info_t link;
  if (H5Lget_info(group, name.c_str(), &link, H5P_DEFAULT) < 0) throw DumpError(file, path, wanted, last_reason());
  if (link.type == H5L_TYPE_HARD) return;
  throw DumpError(file, path, kind + " in this file",
                  link.type == H5L_TYPE_SOFT       ? "a soft link, which may lead out of it"
                  : link.type == H5L_TYPE_EXTERNAL ? "a link to another file"
                                                   : fmt::format("a link of type {}", static_cast<int>(link.type)));
}

}  // namespace draft::hdf5
