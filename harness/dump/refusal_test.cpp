// Given: really broken files, each a good dump with one thing wrong. Claim: each is refused with one
// line that names the file, the object, what was wanted and what was found, and HDF5 itself prints nothing.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <array>
#include <cmath>
#include <vector>

#include "harness/dump/broken.hpp"

namespace draft {
namespace {

using Refusal = BrokenDump;

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
  set_integer("/", "version", 3);
  EXPECT_EQ(opening(), "attribute 'version' of /: wanted 1 to 2, found 3, which is newer than this program");
  set_integer("/", "version", 0);
  EXPECT_EQ(opening(), "attribute 'version' of /: wanted 1 to 2, found 0");
  set_attribute("/", "format", [](hid_t id) { hdf5::write_text(id, "format", "other\nformat"); });
  EXPECT_EQ(opening(), "attribute 'format' of /: wanted 'draftattention-qkv', found 'other\\nformat'");
}

TEST_F(Refusal, CausalIsOfVersion2AndOneRow) {
  set_integer("/", "causal", 1);
  EXPECT_EQ(opening(), "attribute 'causal' of /: wanted none in version 1, found one");
  set_integer("/", "version", 2);
  EXPECT_EQ(opening(),
            "attribute 'causal' of /: wanted 1 on one row of tokens alone, found it on 1 x 2 x 3 + 2 text, causal");
  set_integer("/", "causal", 0);
  EXPECT_EQ(opening(), "not refused");
}

// Claim: what is written as causal is read as causal, from a file whose version older programs refuse.
TEST_F(Refusal, ACausalDumpIsOfVersion2) {
  const Grid grid{1, 1, 3, 0, true};
  const Matrix ones = Matrix::Ones(3, 2);
  DumpWriter writer(path_, {"model", "source", grid});
  CaptureInfo capture;
  capture.name = "c";
  writer.add_capture(capture, {1, 1, 2});
  writer.write_head(0, ones, ones, ones);
  writer.finish();
  const Dump dump = Dump::open(path_);
  EXPECT_EQ(dump.info().version, 2);
  EXPECT_EQ(dump.load(dump.info().captures[0], 0).grid, grid);
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
