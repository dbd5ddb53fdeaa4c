// Given: dumps with false claims: objects in other files, more numbers than the file can hold, text that is no UTF-8,
// attributes that cannot be read. Claim: each is refused at once in one line.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <cstdint>

#include "harness/dump/broken.hpp"

namespace draft {
namespace {

using Claims = BrokenDump;

// Given: at each step of a path, a link that leads out of the file, directly or through another link. Claim: refused at
// this step, also if the other file is a device or does not exist.
TEST_F(Claims, LinksThatMayLeadOutOfTheFile) {
  std::filesystem::copy_file(path_, directory_ / "other.h5");
  for (const std::string object : {"/captures", "/captures/a", "/captures/a/q", "/captures/a/o"}) {
    for (const char* other : {"other.h5", "none.h5", "/dev/zero"}) {
      write_good(0);
      edit([&](hid_t file) {
        if (H5Lexists(file, object.c_str(), H5P_DEFAULT) > 0) H5Ldelete(file, object.c_str(), H5P_DEFAULT);
        H5Lcreate_external(other, object.c_str(), file, object.c_str(), H5P_DEFAULT, H5P_DEFAULT);
      });
      const std::string message = opening();
      expect_start(message, object + ": wanted a ");
      EXPECT_TRUE(message.ends_with(" in this file, found a link to another file")) << message;
    }
    write_good(0);
    edit([&](hid_t file) {
      if (H5Lexists(file, object.c_str(), H5P_DEFAULT) > 0) H5Ldelete(file, object.c_str(), H5P_DEFAULT);
      H5Lcreate_external("other.h5", "/", file, "/elsewhere", H5P_DEFAULT, H5P_DEFAULT);
      H5Lcreate_soft(("/elsewhere" + object).c_str(), file, object.c_str(), H5P_DEFAULT, H5P_DEFAULT);
    });
    const std::string message = opening();
    EXPECT_TRUE(message.ends_with(" in this file, found a soft link, which may lead out of it")) << message;
  }
}

// Given: shapes whose products wrap or that the file cannot hold. Claim: refused at once, with the numbers.
TEST_F(Claims, ShapesThatTheFileCannotHold) {
  const Dims chunk = {1, 8, 1};
  const auto claim = [&](const Dims& dims, bool gzip) {
    write_good(0);
    const hdf5::Properties properties(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_chunk(properties.id(), 3, chunk.data());
    if (gzip) H5Pset_deflate(properties.id(), 1);
    replace("/captures/a/q", dims, H5T_IEEE_F32LE, properties.id(), false);
    return opening();
  };
  const hsize_t large = hsize_t{1} << 44;
  EXPECT_EQ(claim({large, 8, 4}, false), "/captures/a/q: wanted at most 65536 heads, found [17592186044416, 8, 4]");
  EXPECT_EQ(claim({2, 8, large}, false),
            "/captures/a/q: wanted a head_dim of at most 65536, found [2, 8, 17592186044416]");
  const std::string plain = claim({60000, 8, 60000}, false);
  const auto bytes = std::filesystem::file_size(path_);
  EXPECT_EQ(plain, fmt::format("/captures/a/q: wanted at most the {0} bytes that a file of {0} bytes can hold, found "
                               "[60000, 8, 60000], 115200000000 bytes",
                               bytes));
  const std::string packed = claim({60000, 8, 60000}, true);
  EXPECT_EQ(packed, fmt::format("/captures/a/q: wanted at most the {} bytes that a file of {} bytes can hold, found "
                                "[60000, 8, 60000], 115200000000 bytes",
                                1032 * std::filesystem::file_size(path_), std::filesystem::file_size(path_)));
  expect_start(claim({hsize_t{1} << 15, hsize_t{1} << 62, 4}, true), "/captures/a/q: wanted at most the ");
}

// Given: text that is no UTF-8 in attributes and names, with control characters, and integers out of range. Claim:
// refused where it breaks the format, and every message is one printable line.
TEST_F(Claims, TextAndNumbersOutOfRange) {
  set_attribute("/", "model", [](hid_t id) { hdf5::write_text(id, "model", "caf\xe9\x1b[31m"); });
  EXPECT_EQ(opening(),
            "attribute 'model' of /: wanted text in UTF-8 without NUL, found bytes that are no UTF-8 in "
            "'caf\\xe9\\x1b[31m'");
  write_good(0);
  edit([](hid_t file) { H5Lmove(file, "/captures/b", file, "/captures/\xff", H5P_DEFAULT, H5P_DEFAULT); });
  EXPECT_EQ(opening(), "/captures/\\xff: wanted a name of a group in UTF-8, found bytes that are no UTF-8");
  write_good(0);
  edit([](hid_t file) { H5Lmove(file, "/captures/b", file, "/captures/\x1b[2J", H5P_DEFAULT, H5P_DEFAULT); });
  EXPECT_EQ(opening(), "not refused");
  set_attribute("/captures/\x1b[2J", "step", {});
  EXPECT_EQ(opening(), "attribute 'step' of /captures/\\x1b[2J: wanted an integer, found none");
  write_good(0);
  set_attribute("/captures/a", "step", [](hid_t id) {
    const hdf5::Space scalar(H5Screate(H5S_SCALAR));
    const std::uint64_t large = std::uint64_t{1} << 63;
    hdf5::write_attribute(id, "step", H5T_STD_U64LE, H5T_NATIVE_UINT64, scalar.id(), &large);
  });
  EXPECT_EQ(opening(),
            "attribute 'step' of /captures/a: wanted an integer up to 9223372036854775807, found 9223372036854775808");
}

// Given: an attribute whose name is damaged, so that HDF5 cannot tell whether it and those after it exist. Claim: the
// dump is refused with the attribute's name; an attribute that cannot be read is never taken for absent.
TEST_F(Claims, AnAttributeThatCannotBeRead) {
  set_attribute("/captures/b", "softmax_scale", [](hid_t id) { hdf5::write_number(id, "softmax_scale", 0.3); });
  std::string bytes = read_text(path_);
  const std::size_t at = bytes.find(std::string("softmax_scale\0", 14));
  ASSERT_NE(at, std::string::npos);
  bytes[at + 7] = '\0';
  write_bytes(path_, bytes);
  const std::string message = opening();
  expect_start(message, "attributes ");
  EXPECT_NE(message.find("'softmax_scale'"), std::string::npos) << message;
  EXPECT_NE(message.find(" of /captures/b: wanted readable attributes or none of that name, found "), std::string::npos)
      << message;
}

}  // namespace
}  // namespace draft
