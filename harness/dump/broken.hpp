#pragma once
// For tests: a valid dump, and ways to damage it through HDF5 and byte by byte.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <array>
#include <functional>
#include <numeric>
#include <vector>

#include "harness/dump/dump.hpp"
#include "harness/dump/hdf5_attribute_writer.hpp"
#include "harness/dump/writer.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {

using Dims = std::vector<hsize_t>;

inline constexpr Grid kGrid{1, 2, 3, 2};  // 8 tokens
inline constexpr Index kHeads = 2, kKvHeads = 1, kHeadDim = 4;

/// Fixture with a dump that tests damage in one place, and the reader's message about it.
class BrokenDump : public testing::Test {
 protected:
  BrokenDump() { write_good(0); }

  /// Writes a valid dump with captures "a" and "b"; numbers of head h of q are 100 h + 0, 1, 2, ...
  void write_good(int gzip, bool fletcher32 = false) {
    std::filesystem::remove(path_);  // a writer would refuse to replace the damaged file, which is no dump any more
    DumpWriter writer(path_, {"model", "source", kGrid});
    for (const char* name : {"a", "b"}) {
      CaptureInfo capture;
      capture.name = name;
      writer.add_capture(capture, {kHeads, kKvHeads, kHeadDim, Element::float32, false, gzip, fletcher32});
      for (Index head = 0; head < kHeads; ++head) {
        Matrix m(kGrid.tokens(), kHeadDim);
        std::iota(m.data(), m.data() + m.size(), 100.0 * static_cast<double>(head));
        writer.write_head(head, m, m, m);
      }
    }
    writer.finish();
  }

  /// Changes the file through HDF5.
  void edit(const std::function<void(hid_t file)>& change) {
    const hdf5::File file(H5Fopen(path_.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    ASSERT_TRUE(file.ok());
    change(file.id());
  }

  /// Replaces a dataset by another one, of zeros, or not written at all if `written` is false.
  void replace(const std::string& object, const Dims& dims, hid_t type = H5T_IEEE_F32LE, hid_t properties = H5P_DEFAULT,
               bool written = true) {
    edit([&](hid_t file) {
      if (H5Lexists(file, object.c_str(), H5P_DEFAULT) > 0) H5Ldelete(file, object.c_str(), H5P_DEFAULT);
      const hdf5::Space space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
      const hdf5::Dataset dataset(
          H5Dcreate2(file, object.c_str(), type, space.id(), H5P_DEFAULT, properties, H5P_DEFAULT));
      ASSERT_TRUE(dataset.ok());
      if (!written) return;
      const auto count = std::accumulate(dims.begin(), dims.end(), hsize_t{16}, std::multiplies<>());
      const std::vector<char> zeros(count);
      H5Dwrite(dataset.id(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros.data());
    });
  }

  void set_attribute(const std::string& object, const char* name, const std::function<void(hid_t id)>& write) {
    edit([&](hid_t file) {
      const hid_t id = H5Oopen(file, object.c_str(), H5P_DEFAULT);
      if (H5Aexists(id, name) > 0) H5Adelete(id, name);
      if (write) write(id);
      H5Oclose(id);
    });
  }
  void set_integer(const std::string& object, const char* name, Index value) {
    set_attribute(object, name, [&](hid_t id) { hdf5::write_integer(id, name, value); });
  }

  /// Writes one number of a float32 dataset.
  void poke(const std::string& object, const std::array<hsize_t, 3>& at, float value) {
    edit([&](hid_t file) {
      const hdf5::Dataset dataset(H5Dopen2(file, object.c_str(), H5P_DEFAULT));
      const hdf5::Space space(H5Dget_space(dataset.id()));
      H5Sselect_elements(space.id(), H5S_SELECT_SET, 1, at.data());
      const hsize_t one = 1;
      const hdf5::Space memory(H5Screate_simple(1, &one, nullptr));
      H5Dwrite(dataset.id(), H5T_NATIVE_FLOAT, memory.id(), space.id(), H5P_DEFAULT, &value);
    });
  }

  /// Flips one byte in the first chunk of a dataset.
  void flip_byte(const std::string& object, hsize_t offset) {
    haddr_t address = 0;
    edit([&](hid_t file) {
      const hdf5::Dataset dataset(H5Dopen2(file, object.c_str(), H5P_DEFAULT));
      const std::array<hsize_t, 3> start{};
      unsigned filters = 0;
      hsize_t size = 0;
      ASSERT_GE(H5Dget_chunk_info_by_coord(dataset.id(), start.data(), &filters, &address, &size), 0);
      ASSERT_LT(offset, size);
    });
    std::string bytes = read_text(path_);
    bytes[address + offset] = static_cast<char>(bytes[address + offset] ^ 0x5a);
    write_bytes(path_, bytes);
  }

  /// The text of the refusal, without the file's name. Checks that it is one line that begins with that name.
  [[nodiscard]] std::string message_of(const std::function<void()>& action) const {
    testing::internal::CaptureStderr();
    std::string message = "not refused";
    try {
      action();
    } catch (const DumpError& error) {
      message = error.what();
      EXPECT_TRUE(message.starts_with(path_.string() + ": ")) << message;
      message = message.substr(std::min(message.size(), path_.string().size() + 2));
    }
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    return message;
  }
  [[nodiscard]] std::string opening() const {
    return message_of([&] { static_cast<void>(Dump::open(path_)); });
  }
  [[nodiscard]] std::string loading(Index head) const {
    const Dump dump = Dump::open(path_);
    return message_of([&] { static_cast<void>(dump.load(dump.info().captures[0], head)); });
  }

  TemporaryDirectory directory_;
  const std::filesystem::path path_ = directory_ / "dump.h5";
};

/// Expects a message that begins with `start`; HDF5's own words may follow.
inline void expect_start(const std::string& message, const std::string& start) {
  EXPECT_TRUE(message.starts_with(start)) << message;
}

}  // namespace draft
