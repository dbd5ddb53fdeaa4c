#pragma once
// Reads the attributes of one HDF5 object, and refuses those that are missing, of a wrong type or unreadable. Included
// by the dump's reader only. Strings may be of fixed or variable length, numbers of any width.

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "harness/dump/hdf5_handles.hpp"
#include "reference/problem.hpp"

namespace draft::hdf5 {

/// An HDF5 type in words, for messages: "int32", "float64 with 11 exponent bits", "string".
std::string describe_type(hid_t type);

class AttributeReader {
 public:
  using Names = std::vector<const char*>;

  /// `object` is the name of `id` in messages, `known` the attributes that the format allows it. Every attribute must
  /// open, so that one that cannot be read is never taken for absent. Throws DumpError.
  AttributeReader(std::filesystem::path file, std::string object, hid_t id, const Names& known);

  [[nodiscard]] bool has(const std::string& name) const { return names_.contains(name); }

  /// UTF-8, without NUL.
  [[nodiscard]] std::string text(const char* name) const;
  [[nodiscard]] Index integer(const char* name) const;
  /// Exactly `count` integers; `why` follows that number in a message.
  [[nodiscard]] std::vector<Index> integers(const char* name, std::size_t count, const char* why) const;
  [[nodiscard]] double number(const char* name) const;

  [[noreturn]] void refuse(const std::string& name, const std::string& wanted, const std::string& found) const;

 private:
  struct Found {
    Attribute attribute;
    Type type;
    hssize_t count;
  };
  [[nodiscard]] Found open(const char* name, const char* wanted, H5T_class_t kind, H5T_class_t other_kind) const;
  void require_count(const char* name, const Found& found, std::size_t count, const std::string& wanted) const;
  [[nodiscard]] std::vector<Index> read_integers(const char* name, const Found& found) const;
  [[noreturn]] void refuse_unreadable(const std::string& name) const;
  [[noreturn]] void refuse_list(const Names& known) const;

  std::filesystem::path file_;
  std::string object_;
  hid_t id_;
  std::set<std::string> names_;
};

}  // namespace draft::hdf5
