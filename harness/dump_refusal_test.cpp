// Given: really broken files, each a good dump with one thing wrong. Claim: each is refused with one
// line that names the file, the object, what was wanted and what was found, and HDF5 itself prints nothing.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "harness/dump.hpp"
#include "harness/dump_writer.hpp"
#include "harness/hdf5_attribute_writer.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

using Dims = std::vector<hsize_t>;

constexpr Grid kGrid{1, 2, 3, 2};  // 8 tokens
constexpr Index kHeads = 2, kKvHeads = 1, kHeadDim = 4;

class Refusal : public testing::Test {
 protected:
  Refusal() { write_good(0); }

  /// A sound dump with captures "a" and "b"; numbers of head h of q are 100 h + 0, 1, 2, ...
  void write_good(int gzip, bool fletcher32 = false) {
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

  /// Puts another dataset in the place of one; zeros are written unless `written` says otherwise.
  void replace(const std::string& object, const Dims& dims, hid_t type = H5T_IEEE_F32LE, hid_t properties = H5P_DEFAULT,
               bool written = true) {
    edit([&](hid_t file) {
      if (H5Lexists(file, object.c_str(), H5P_DEFAULT) > 0) H5Ldelete(file, object.c_str(), H5P_DEFAULT);
      const hdf5::Space space(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr));
      const hdf5::Dataset dataset(
          H5Dcreate2(file, object.c_str(), type, space.id(), H5P_DEFAULT, properties, H5P_DEFAULT));
      ASSERT_TRUE(dataset.ok());
      const auto count = std::accumulate(dims.begin(), dims.end(), hsize_t{16}, std::multiplies<>());
      const std::vector<char> zeros(count);
      if (written) H5Dwrite(dataset.id(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros.data());
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

  /// The refusal's text without the file's name, after checking that it is one line that begins with that name.
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

/// The message begins so; HDF5's own words may follow.
void expect_start(const std::string& message, const std::string& start) {
  EXPECT_TRUE(message.starts_with(start)) << message;
}

// Negative control: the dump that all others are made from is accepted.
TEST_F(Refusal, TheGoodDumpIsFine) {
  EXPECT_EQ(opening(), "not refused");
  EXPECT_EQ(loading(0), "not refused");
  EXPECT_EQ(Dump::open(path_).load(Dump::open(path_).info().capture("a"), 1).q(7, 3), 131.0);
}

TEST_F(Refusal, FilesThatAreNoHdf5) {
  write_bytes(path_, "timestep,layer\n1,2\n");
  EXPECT_EQ(opening(), "file: wanted an HDF5 file, found 19 bytes of something else");
  write_bytes(path_, "");
  EXPECT_EQ(opening(), "file: wanted an HDF5 file, found 0 bytes of something else");
  std::filesystem::remove(path_);
  EXPECT_EQ(opening(), "file: wanted an HDF5 file, found no such file");
  std::filesystem::create_directory(path_);
  EXPECT_EQ(opening(), "file: wanted an HDF5 file, found no regular file");
}

TEST_F(Refusal, TruncatedAtEveryEighth) {
  const std::string whole = read_text(path_);
  for (std::size_t eighth = 1; eighth < 8; ++eighth) {
    write_bytes(path_, whole.substr(0, whole.size() * eighth / 8));
    expect_start(opening(), "file: wanted a whole HDF5 file, found a truncated or damaged one: ");
  }
  write_bytes(path_, whole.substr(0, whole.size() - 1));
  expect_start(opening(), "file: wanted a whole HDF5 file, found a truncated or damaged one: ");
}

TEST_F(Refusal, WrongFormatAndVersion) {
  set_integer("/", "version", 2);
  EXPECT_EQ(opening(), "attribute 'version' of /: wanted 1, found 2, which is newer than this program");
  set_integer("/", "version", 0);
  EXPECT_EQ(opening(), "attribute 'version' of /: wanted 1, found 0");
  set_attribute("/", "format", [](hid_t id) { hdf5::write_text(id, "format", "other\nformat"); });
  EXPECT_EQ(opening(), "attribute 'format' of /: wanted 'draftattention-qkv', found 'other\\nformat'");
}

TEST_F(Refusal, EveryMissingAttribute) {
  for (const char* name : {"format", "version", "model", "source", "frames", "height", "width", "text_tokens"}) {
    write_good(0);
    set_attribute("/", name, {});
    const std::string message = opening();
    expect_start(message, fmt::format("attribute '{}' of /: wanted a", name));
    EXPECT_TRUE(message.ends_with(", found none")) << message;
  }
  for (const char* name : {"layer", "step", "timestep"}) {
    write_good(0);
    set_attribute("/captures/b", name, {});
    const std::string message = opening();
    expect_start(message, fmt::format("attribute '{}' of /captures/b: wanted a", name));
    EXPECT_TRUE(message.ends_with(", found none")) << message;
  }
}

TEST_F(Refusal, AttributesOfAnotherKind) {
  set_attribute("/captures/a", "step", [](hid_t id) { hdf5::write_number(id, "step", 1.5); });
  EXPECT_EQ(opening(), "attribute 'step' of /captures/a: wanted an integer, found float64 with 11 exponent bits");
  set_integer("/captures/a", "step", 1);
  set_attribute("/captures/a", "timestep", [](hid_t id) { hdf5::write_number(id, "timestep", std::nan("")); });
  EXPECT_EQ(opening(), "attribute 'timestep' of /captures/a: wanted a finite number, found nan");
  set_integer("/captures/a", "timestep", 7);  // an integer is a number
  set_attribute("/captures/a", "softmax_scale", [](hid_t id) { hdf5::write_number(id, "softmax_scale", -1.0); });
  EXPECT_EQ(opening(), "attribute 'softmax_scale' of /captures/a: wanted a finite number above 0, found -1");
  set_attribute("/captures/a", "softmax_scale", {});
  set_integer("/captures/a", "model_heads", 7);
  EXPECT_EQ(opening(), "attribute 'model_heads' of /captures/a: wanted 2 integers, one a head, found 1");
  set_attribute("/captures/a", "model_heads", {});
  set_integer("/", "model", 3);
  EXPECT_EQ(opening(), "attribute 'model' of /: wanted a string, found int64");
}

TEST_F(Refusal, AxesOfTheGridOutOfRange) {
  for (const char* name : {"frames", "height", "width"}) {
    write_good(0);
    set_integer("/", name, 0);
    EXPECT_EQ(opening(), fmt::format("attribute '{}' of /: wanted 1 to 1000000, found 0", name));
  }
  write_good(0);
  set_integer("/", "text_tokens", -1);
  EXPECT_EQ(opening(), "attribute 'text_tokens' of /: wanted 0 to 1000000, found -1");
  set_integer("/", "text_tokens", Index{1} << 62);
  EXPECT_EQ(opening(), "attribute 'text_tokens' of /: wanted 0 to 1000000, found 4611686018427387904");
}

TEST_F(Refusal, NoCaptures) {
  edit([](hid_t file) {
    H5Ldelete(file, "/captures/a", H5P_DEFAULT);
    H5Ldelete(file, "/captures/b", H5P_DEFAULT);
  });
  EXPECT_EQ(opening(), "/captures: wanted at least one capture, found none");
  edit([](hid_t file) { H5Ldelete(file, "/captures", H5P_DEFAULT); });
  EXPECT_EQ(opening(), "/captures: wanted a group, found none");
}

TEST_F(Refusal, ACaptureThatIsNoGroup) {
  replace("/captures/c", {1});
  expect_start(opening(), "/captures/c: wanted a group, found ");
}

TEST_F(Refusal, EveryMissingDataset) {
  for (const char* name : {"q", "k", "v"}) {
    write_good(0);
    const std::string object = fmt::format("/captures/b/{}", name);
    edit([&](hid_t file) { H5Ldelete(file, object.c_str(), H5P_DEFAULT); });
    EXPECT_EQ(opening(), object + ": wanted a dataset [heads, tokens, head_dim], found none");
  }
}

TEST_F(Refusal, RanksAndShapes) {
  replace("/captures/a/q", {8, 4});
  EXPECT_EQ(opening(), "/captures/a/q: wanted rank 3 [heads, tokens, head_dim], found rank 2");
  replace("/captures/a/q", {2, 7, 4});
  EXPECT_EQ(opening(), "/captures/a/q: wanted [2, 8, 4] (as q; grid 1 x 2 x 3 + 2 text), found [2, 7, 4]");
  replace("/captures/a/q", {2, 8, 5});
  EXPECT_EQ(opening(), "/captures/a/k: wanted [1, 8, 5] (as q; grid 1 x 2 x 3 + 2 text), found [1, 8, 4]");
  replace("/captures/a/q", {3, 8, 4});
  replace("/captures/a/k", {2, 8, 4});
  EXPECT_EQ(opening(), "/captures/a/k: wanted a number of heads that divides q's 3, found 2");
  replace("/captures/a/k", {3, 8, 4});
  EXPECT_EQ(opening(), "/captures/a/v: wanted [3, 8, 4] (as k; grid 1 x 2 x 3 + 2 text), found [1, 8, 4]");
  write_good(0);
  replace("/captures/a/o", {1, 8, 4});
  EXPECT_EQ(opening(), "/captures/a/o: wanted [2, 8, 4] (as q; grid 1 x 2 x 3 + 2 text), found [1, 8, 4]");
  write_good(0);
  replace("/captures/a/k", {0, 8, 4}, H5T_IEEE_F32LE, H5P_DEFAULT, false);
  EXPECT_EQ(opening(), "/captures/a/k: wanted at least 1 along every axis, found [0, 8, 4]");
}

TEST_F(Refusal, CapturesThatDisagree) {
  replace("/captures/b/q", {4, 8, 4});
  EXPECT_EQ(opening(),
            "/captures/b/q: wanted [2, 8, 4] (as in the captures before; grid 1 x 2 x 3 + 2 text), found [4, 8, 4]");
}

TEST_F(Refusal, ElementTypes) {
  const std::string wanted =
      "/captures/a/v: wanted float16, float32, float64, or uint16 with attribute dtype = 'bfloat16', found ";
  replace("/captures/a/v", {1, 8, 4}, H5T_STD_I32LE);
  EXPECT_EQ(opening(), wanted + "int32");
  replace("/captures/a/v", {1, 8, 4}, H5T_STD_U16LE);
  EXPECT_EQ(opening(), wanted + "uint16 without that attribute");
  set_attribute("/captures/a/v", "dtype", [](hid_t id) { hdf5::write_text(id, "dtype", "float16"); });
  EXPECT_EQ(opening(), wanted + "uint16 without that attribute");
  set_attribute("/captures/a/v", "dtype", [](hid_t id) { hdf5::write_text(id, "dtype", "bfloat16"); });
  EXPECT_EQ(opening(), "not refused");
  EXPECT_EQ(Dump::open(path_).info().element, "mixed");
  const hdf5::Type compound(H5Tcreate(H5T_COMPOUND, 4));
  H5Tinsert(compound.id(), "r", 0, H5T_IEEE_F32LE);
  replace("/captures/a/v", {1, 8, 4}, compound.id());
  EXPECT_EQ(opening(), wanted + "compound");
  const hdf5::Type bfloat16(H5Tcopy(H5T_IEEE_F32LE));  // 16 bits, but not IEEE's half
  H5Tset_fields(bfloat16.id(), 15, 7, 8, 0, 7);
  H5Tset_size(bfloat16.id(), 2);
  H5Tset_ebias(bfloat16.id(), 127);
  replace("/captures/a/v", {1, 8, 4}, bfloat16.id());
  EXPECT_EQ(opening(), wanted + "float16 with 8 exponent bits");
}

TEST_F(Refusal, NanAndInfinity) {
  poke("/captures/a/q", {1, 5, 2}, std::numeric_limits<float>::infinity());
  poke("/captures/a/q", {1, 3, 1}, std::nanf(""));
  EXPECT_EQ(opening(), "not refused");
  EXPECT_EQ(loading(0), "not refused");
  EXPECT_EQ(loading(1),
            "/captures/a/q: wanted finite numbers, found 2 NaN or infinite in head 1, the first, nan, at [1, 3, 1]");
}

TEST_F(Refusal, OtherFilters) {
  const hdf5::Properties properties(H5Pcreate(H5P_DATASET_CREATE));
  const Dims chunk = {1, 8, 4};
  H5Pset_chunk(properties.id(), 3, chunk.data());
  H5Pset_nbit(properties.id());
  replace("/captures/a/v", {1, 8, 4}, H5T_IEEE_F32LE, properties.id());
  EXPECT_EQ(opening(), "/captures/a/v: wanted no filter but shuffle, gzip and fletcher32, found filter 5 'nbit'");
}

TEST_F(Refusal, NumbersThatWereNeverWritten) {
  replace("/captures/a/v", {1, 8, 4}, H5T_IEEE_F32LE, H5P_DEFAULT, false);
  EXPECT_EQ(opening(), "/captures/a/v: wanted numbers, found none: they were never written");
  const hdf5::Properties properties(H5Pcreate(H5P_DATASET_CREATE));
  const Dims chunk = {1, 8, 4};
  H5Pset_chunk(properties.id(), 3, chunk.data());
  replace("/captures/a/q", {2, 8, 4}, H5T_IEEE_F32LE, properties.id(), false);
  EXPECT_EQ(opening(), "/captures/a/q: wanted 2 written chunks, found 0");
}

TEST_F(Refusal, NumbersInAnotherFile) {
  const hdf5::Properties properties(H5Pcreate(H5P_DATASET_CREATE));
  H5Pset_external(properties.id(), (directory_ / "elsewhere.bin").c_str(), 0, H5F_UNLIMITED);
  replace("/captures/a/v", {1, 8, 4}, H5T_IEEE_F32LE, properties.id());
  EXPECT_EQ(opening(), "/captures/a/v: wanted numbers in this file, found numbers in another file");
  edit([](hid_t file) {
    H5Ldelete(file, "/captures/a/v", H5P_DEFAULT);
    H5Lcreate_external("other.h5", "/v", file, "/captures/a/v", H5P_DEFAULT, H5P_DEFAULT);
  });
  EXPECT_EQ(opening(), "/captures/a/v: wanted a dataset in this file, found a link to another file");
}

// Given: a link at each step of a path that leads out of the file, at once or by another link. Claim: refused there,
// also where the other file is a device or is not there.
TEST_F(Refusal, LinksThatMayLeadOutOfTheFile) {
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
TEST_F(Refusal, ShapesThatTheFileCannotHold) {
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
TEST_F(Refusal, TextAndNumbersOutOfRange) {
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

// Given: an attribute whose name is damaged, so that HDF5 cannot tell it or any behind it from absent. Claim: refused,
// naming it; never taken for one that is not there.
TEST_F(Refusal, AnAttributeThatCannotBeRead) {
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

TEST_F(Refusal, DamagedChunks) {
  write_good(0, true);
  flip_byte("/captures/a/q", 9);
  expect_start(loading(0), "/captures/a/q head 0: wanted readable chunks, found ");
  EXPECT_EQ(loading(1), "not refused");
  write_good(4);
  flip_byte("/captures/a/q", 9);
  expect_start(loading(0), "/captures/a/q head 0: wanted readable chunks, found ");
  EXPECT_EQ(loading(1), "not refused");
}

// Given: requests that the dump cannot meet. Claim: one line with what there is.
TEST_F(Refusal, HeadsAndCapturesThatAreNotThere) {
  const Dump dump = Dump::open(path_);
  for (const Index head : {Index{-1}, kHeads}) {
    EXPECT_THROW(static_cast<void>(dump.load(dump.info().captures[0], head)), UsageError);
  }
  try {
    static_cast<void>(dump.info().capture("c"));
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_EQ(error.what(), path_.string() + ": capture: wanted one of a, b, found 'c'");
  }
}

// Given: fixed-length strings (NUL- and space-padded), narrow and big-endian numbers. Claim: read like others.
TEST_F(Refusal, OtherWidthsOfAttributesAndNumbersAreFine) {
  const auto fixed = [](const char* name, H5T_str_t padding, std::string value) {
    return [=](hid_t id) {
      const hdf5::Type type(H5Tcopy(H5T_C_S1));
      H5Tset_size(type.id(), value.size());
      H5Tset_strpad(type.id(), padding);
      const hdf5::Space scalar(H5Screate(H5S_SCALAR));
      hdf5::write_attribute(id, name, type.id(), type.id(), scalar.id(), value.data());
    };
  };
  set_attribute("/", "format", fixed("format", H5T_STR_SPACEPAD, "draftattention-qkv   "));
  set_attribute("/", "model", fixed("model", H5T_STR_NULLPAD, std::string("abc\0\0", 5)));
  set_attribute("/", "frames", [](hid_t id) {
    const hdf5::Space scalar(H5Screate(H5S_SCALAR));
    const signed char one = 1;
    hdf5::write_attribute(id, "frames", H5T_STD_I8BE, H5T_NATIVE_SCHAR, scalar.id(), &one);
  });
  replace("/captures/a/q", {2, 8, 4}, H5T_IEEE_F32BE);
  poke("/captures/a/q", {0, 1, 2}, 0.75F);
  EXPECT_EQ(opening(), "not refused");
  const Dump dump = Dump::open(path_);
  EXPECT_EQ(dump.info().model, "abc");
  EXPECT_EQ(dump.load(dump.info().captures[0], 0).q(1, 2), 0.75);
}

}  // namespace
}  // namespace draft
