#include "harness/record/provenance.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "harness/options.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

// Given: the empty file, "abc" and a million times "a" (FIPS 180-2's examples; the last needs one read of 1 MB
// that is not full). Claim: the published digests.
TEST(Provenance, Sha256OfKnownFiles) {
  const TemporaryDirectory directory;
  write_bytes(directory / "empty", "");
  write_bytes(directory / "abc", "abc");
  write_bytes(directory / "million", std::string(1'000'000, 'a'));
  EXPECT_EQ(sha256_file(directory / "empty"), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_file(directory / "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_file(directory / "million"), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Given: files of exactly one piece and of one piece and a byte. Claim: they differ, and the digest depends on the last
// byte.
TEST(Provenance, Sha256ReadsEveryPiece) {
  const TemporaryDirectory directory;
  write_bytes(directory / "piece", std::string(1 << 20, 'x'));
  write_bytes(directory / "longer", std::string(1 << 20, 'x') + "y");
  write_bytes(directory / "other", std::string(1 << 20, 'x') + "z");
  EXPECT_NE(sha256_file(directory / "piece"), sha256_file(directory / "longer"));
  EXPECT_NE(sha256_file(directory / "other"), sha256_file(directory / "longer"));
}

TEST(Provenance, Sha256RefusesWhatCannotBeRead) {
  const TemporaryDirectory directory;
  EXPECT_THROW(static_cast<void>(sha256_file(directory / "none")), UsageError);
  EXPECT_THROW(static_cast<void>(sha256_file(directory.path())), UsageError);
}

TEST(Provenance, MachineBuildAndTime) {
  const auto machine = machine_info();
  EXPECT_FALSE(machine["cpu"].get<std::string>().empty());
  EXPECT_GE(machine["cores"], 1);
  EXPECT_GT(machine["memory_gb"], 0.0);
  EXPECT_TRUE(machine["gpu"].is_null());
  EXPECT_FALSE(build_info()["compiler"].get<std::string>().empty());
  std::string time = utc_time();
  std::replace_if(time.begin(), time.end(), [](char c) { return c >= '0' && c <= '9'; }, '0');
  EXPECT_EQ(time, "0000-00-00T00:00:00Z");
}

}  // namespace
}  // namespace draft
