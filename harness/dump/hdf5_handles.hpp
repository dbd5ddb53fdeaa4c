#pragma once
// Owners of HDF5's ids, and what the dump's reader and writer share. Included by these two only: nothing else in the
// program uses HDF5.

#include <hdf5.h>

#include <string>
#include <utility>

#include "harness/numbers/element.hpp"

namespace draft::hdf5 {

/// Owns one id; a negative id means that the call which should have made it failed.
template <herr_t (*close)(hid_t)>
class Handle {
 public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    return *this;
  }
  ~Handle() { (void)reset(); }

  [[nodiscard]] bool ok() const { return id_ >= 0; }
  [[nodiscard]] hid_t id() const { return id_; }
  /// Closes now; false if that failed (a file's last bytes are written here).
  [[nodiscard]] bool reset() noexcept { return id_ < 0 || close(std::exchange(id_, H5I_INVALID_HID)) >= 0; }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

using File = Handle<H5Fclose>;
using Group = Handle<H5Gclose>;
using Dataset = Handle<H5Dclose>;
using Space = Handle<H5Sclose>;
using Type = Handle<H5Tclose>;
using Attribute = Handle<H5Aclose>;
using Properties = Handle<H5Pclose>;

/// Keeps HDF5 from printing its error stack while it lives.
class QuietErrors {
 public:
  QuietErrors() {
    H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  }
  QuietErrors(const QuietErrors&) = delete;
  QuietErrors& operator=(const QuietErrors&) = delete;
  ~QuietErrors() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }

 private:
  H5E_auto2_t function_ = nullptr;
  void* data_ = nullptr;
};

/// Why the last HDF5 call failed, in HDF5's words: the innermost entry of its error stack.
inline std::string last_reason() {
  std::string reason;
  const auto first = [](unsigned, const H5E_error2_t* entry, void* text) -> herr_t {
    if (entry->desc != nullptr) *static_cast<std::string*>(text) = entry->desc;
    return 1;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first, &reason);
  return reason.empty() ? "HDF5 gives no reason" : reason;
}

/// HDF5's IEEE half precision, little-endian; HDF5 1.10 has no name for it.
inline Type float16_type() {
  Type type(H5Tcopy(H5T_IEEE_F32LE));
  H5Tset_fields(type.id(), 15, 10, 5, 0, 10);
  H5Tset_size(type.id(), 2);
  H5Tset_ebias(type.id(), 15);
  return type;
}

/// The HDF5 type of an element in memory and in files that this program writes. HDF5 has no bfloat16: its bits are
/// stored as unsigned integers, and an attribute of the dataset says so.
inline Type storage_type(Element element) {
  switch (element) {
    case Element::float16: return float16_type();
    case Element::bfloat16: return Type(H5Tcopy(H5T_STD_U16LE));
    case Element::float32: return Type(H5Tcopy(H5T_IEEE_F32LE));
    case Element::float64: return Type(H5Tcopy(H5T_IEEE_F64LE));
  }
  return Type();
}

}  // namespace draft::hdf5
