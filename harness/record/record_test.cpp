#include "harness/record/record.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zlib.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <limits>

#include "harness/options.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

Json record(Index head = 0, double sparsity = 0.9, Json metrics = {{"delta_logits", 1.5}}) {
  return make_record("bounds", {{"dump", "x.h5"}, {"sha256", "ab"}, {"capture", "c"}, {"head", head}},
                     {{"pool", "avg"}, {"sparsity", sparsity}}, std::move(metrics));
}

std::string refusal(const std::filesystem::path& path) {
  try {
    const RecordLog log(path);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "not refused";
}

// Given: a new record. Claim: it has every key that the record format asks for.
TEST(Record, HasSchemaMachineBuildAndTime) {
  const Json made = record();
  EXPECT_EQ(made["schema"], 2);
  EXPECT_EQ(made["experiment"], "bounds");
  EXPECT_EQ(made["run"], record()["run"]);
  EXPECT_EQ(made["run"].get<std::string>().size(), std::string("20250520T123456Z-0a1b2c3d").size());
  EXPECT_EQ(made["status"], "ok");
  EXPECT_TRUE(made["machine"].contains("cpu"));
  EXPECT_TRUE(made["machine"]["gpu"].is_null());
  EXPECT_TRUE(made["build"]["dirty"].is_boolean());
  EXPECT_EQ(made["time"].get<std::string>().size(), std::string("2025-05-20T12:34:56Z").size());
  EXPECT_EQ(skipped(made, "too large")["reason"], "too large");
}

// Given: cells that differ in one part of their identity, or only in order of keys or results. Claim: only the former
// differ.
TEST(Record, IdentityIsExperimentInputAndConfig) {
  EXPECT_NE(cell_identity(record(0)), cell_identity(record(1)));
  EXPECT_NE(cell_identity(record(0, 0.9)), cell_identity(record(0, 0.75)));
  Json other = record();
  other["experiment"] = "pooling";
  EXPECT_NE(cell_identity(other), cell_identity(record()));
  Json reordered = record(0, 0.9, {{"delta_logits", 7.0}});
  reordered["config"] = {{"sparsity", 0.9}, {"pool", "avg"}};
  reordered["input"]["dump"] = "renamed.h5";
  EXPECT_EQ(cell_identity(reordered), cell_identity(record()));
}

// Given: what two GPUs, or two names of one dump, measured; an input without a dump. Claim: a GPU matters where it
// computed, a name does not, and without a dump everything that the input says matters.
TEST(Record, IdentityIsOfWhatMatters) {
  const auto on = [](const char* device, const char* gpu) {
    Json made = record();
    made["config"]["device"] = device;
    made["machine"]["gpu"] = gpu;
    return made;
  };
  EXPECT_NE(cell_identity(on("cuda", "A")), cell_identity(on("cuda", "B")));
  EXPECT_EQ(measured_cell(on("cuda", "A")), measured_cell(on("cuda", "B")));
  EXPECT_EQ(cell_identity(on("cpu", "A")), cell_identity(on("cpu", "B")));
  Json bare = on("cpu", "A");
  bare.erase("machine");
  EXPECT_EQ(cell_identity(bare), cell_identity(on("cpu", "A")));
  Json random = record();
  random["input"] = {{"sha256", nullptr}, {"shape", "a"}, {"seed", 1}};
  Json other = random;
  other["input"]["seed"] = 2;
  EXPECT_NE(cell_identity(random), cell_identity(other));
  other["input"] = {{"shape", "a"}, {"seed", 1}};
  EXPECT_EQ(cell_identity(random), cell_identity(other)) << "null is the same as no value";
}

// Given: a file of another build's records. Claim: they are not done, said once; with OtherBuilds::done they are. A
// record of this build that stands behind one of them makes the cell done.
TEST(RecordLog, OtherBuilds) {
  const TemporaryDirectory directory;
  Json old_first = record(0), old_second = record(1);
  old_first["build"]["commit"] = old_second["build"]["commit"] = "another";
  write_bytes(directory / "r.jsonl", old_first.dump() + "\n" + old_second.dump() + "\n" + record(1).dump() + "\n");
  testing::internal::CaptureStderr();
  {
    RecordLog log(directory / "r.jsonl");
    EXPECT_FALSE(log.contains(record(0)));
    EXPECT_FALSE(log.contains(record(0)));
    EXPECT_TRUE(log.contains(record(1)));
    EXPECT_FALSE(log.is_done(old_first));
    EXPECT_TRUE(log.is_done(record(1)));
    log.append(record(0));
    EXPECT_TRUE(log.contains(record(0)));
  }
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_EQ(said, (directory / "r.jsonl").string() +
                      ": what another build measured is measured again; --any-build keeps it\n");
  EXPECT_EQ(read_records(directory / "r.jsonl").size(), 4U) << "nothing is taken away";
  write_bytes(directory / "r.jsonl", old_first.dump() + "\n");
  RecordLog any(directory / "r.jsonl", OtherBuilds::done);
  EXPECT_TRUE(any.contains(record(0)));
}

// Given: one number written in several ways. Claim: one cell; another number is another.
TEST(Record, IdentityIsByNumber) {
  const auto of = [](const Json& sparsity) {
    Json made = record();
    made["config"]["sparsity"] = sparsity;
    made["config"]["region"] = {sparsity, 16};
    return cell_identity(made);
  };
  EXPECT_EQ(of(0.0), of(0));
  EXPECT_EQ(of(-0.0), of(0));
  EXPECT_EQ(of(8.0), of(8U));
  EXPECT_EQ(of(0x1p63), of(std::uint64_t{1} << 63));
  EXPECT_NE(of(0.0), of(5e-324));
  EXPECT_NE(of(0.5), of(1));
  EXPECT_NE(of(0), of("0"));
}

// Given: a log that is closed and opened again. Claim: ok and skipped cells are done, failed ones are not, lines are
// whole.
TEST(RecordLog, RemembersDoneCells) {
  const TemporaryDirectory directory;
  Json failed = record(2);
  failed["status"] = "failed";
  {
    RecordLog log(directory / "r.jsonl");
    EXPECT_FALSE(log.contains(record(0)));
    EXPECT_TRUE(log.append(record(0)));
    EXPECT_TRUE(log.append(skipped(record(1), "no text")));
    EXPECT_TRUE(log.append(failed));
    EXPECT_TRUE(log.contains(record(0)));
  }
  const std::string before = read_text(directory / "r.jsonl");
  EXPECT_EQ(std::count(before.begin(), before.end(), '\n'), 3);
  RecordLog log(directory / "r.jsonl");
  EXPECT_TRUE(log.contains(record(0)));
  EXPECT_TRUE(log.contains(record(1)));
  EXPECT_FALSE(log.contains(record(2)));
  EXPECT_EQ(log.size(), 2U);
  EXPECT_EQ(read_text(directory / "r.jsonl"), before);
}

// Given: NaN and infinite metrics. Claim: the line is JSON, failed, with the reason and without the values.
TEST(RecordLog, NonFiniteMetricIsAFailure) {
  const TemporaryDirectory directory;
  RecordLog log(directory / "r.jsonl");
  EXPECT_FALSE(
      log.append(record(0, 0.9, {{"a", std::nan("")}, {"b", 2.0}, {"c", std::numeric_limits<double>::infinity()}})));
  EXPECT_FALSE(log.contains(record(0)));
  const Json line = Json::parse(read_text(directory / "r.jsonl"));
  EXPECT_EQ(line["status"], "failed");
  EXPECT_EQ(line["reason"], "metric a is nan; metric c is inf");
  EXPECT_EQ(line["metrics"], Json({{"b", 2.0}}));
}

// Given: a file whose last line a kill cut short. Claim: only that line goes, one line on stderr says so, and the next
// record starts on a line of its own.
TEST(RecordLog, CutsAnIncompleteLastLine) {
  const TemporaryDirectory directory;
  const std::string whole = record(0).dump() + "\n";
  write_bytes(directory / "r.jsonl", whole + record(1).dump().substr(0, 40));
  testing::internal::CaptureStderr();
  {
    RecordLog log(directory / "r.jsonl");
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_NE(said.find("incomplete last line (40 bytes)"), std::string::npos) << said;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1);
    EXPECT_EQ(read_text(directory / "r.jsonl"), whole);
    EXPECT_TRUE(log.contains(record(0)));
    EXPECT_FALSE(log.contains(record(1)));
    log.append(record(1));
  }
  EXPECT_EQ(RecordLog(directory / "r.jsonl").size(), 2U);
}

// Given: files that are no JSON Lines, a locked one, a directory that is not there. Claim: one clear line each, file
// untouched.
TEST(RecordLog, Refusals) {
  const TemporaryDirectory directory;
  const std::string path = (directory / "r.jsonl").string();
  const std::string text = record(0).dump() + "\nhello\n";
  write_bytes(path, text);
  EXPECT_EQ(refusal(path), path + ": line 2: wanted one JSON object, found something else");
  EXPECT_EQ(read_text(path), text);
  write_bytes(path, "[1]\n");
  EXPECT_EQ(refusal(path), path + ": line 1: wanted one JSON object, found array");
  const RecordLog holder(directory / "held.jsonl");
  EXPECT_EQ(refusal(directory / "held.jsonl"),
            (directory / "held.jsonl").string() + ": is being written by another run");
  EXPECT_EQ(refusal(directory / "none/r.jsonl"),
            (directory / "none/r.jsonl").string() + ": records cannot be written here: No such file or directory");
  EXPECT_NE(refusal(directory.path()).find("Is a directory"), std::string::npos);
}

// Given: files that are no records, and what looks like the end of one but is not. Claim: refused, every byte and the
// time of the last change as before. Negative control: the beginning of a record alone, as a first run leaves it, is
// cut.
TEST(RecordLog, NothingElseIsTouched) {
  const TemporaryDirectory directory;
  const std::string whole = record(0).dump() + "\n";
  Json later = record(0);
  later["schema"] = 3;
  int number = 0;
  for (const std::string& bytes :
       {std::string("notes"), std::string("notes\n"), std::string("x"), std::string("{\n  \"schema\": 2\n}\n"),
        std::string("{\"schema\": 2}"), std::string("{\"title\": "), std::string("a,b\n1,2\n"),
        std::string("\x89HDF\r\n\x1a\n"), std::string("\0\0", 2), std::string("\n"), later.dump() + "\n",
        later.dump().substr(0, 30), whole + "notes", whole + "\n", whole + std::string("\0", 1),
        whole + "{\"schema\":3", whole + "{} ", whole + later.dump()}) {
    const std::filesystem::path path = directory / std::to_string(++number);
    write_bytes(path, bytes);
    const auto time = std::filesystem::last_write_time(path) - std::chrono::hours(1);
    std::filesystem::last_write_time(path, time);
    EXPECT_NE(refusal(path).find(path.string() + ": line "), std::string::npos) << bytes << refusal(path);
    EXPECT_EQ(read_text(path), bytes);
    EXPECT_EQ(std::filesystem::last_write_time(path), time);
    std::filesystem::create_symlink(path, directory / "link");
    EXPECT_NE(refusal(directory / "link"), "not refused");
    EXPECT_EQ(read_text(path), bytes);
    std::filesystem::remove(directory / "link");
  }
  for (const std::size_t length : {1, 12, 40}) {
    write_bytes(directory / "begun", whole.substr(0, length));
    EXPECT_EQ(refusal(directory / "begun"), "not refused");
    EXPECT_EQ(read_text(directory / "begun"), "");
  }
}

// Given: records whose last line lacks its end alone. Claim: it is kept, and the next record has a line of its own.
TEST(RecordLog, AWholeLastLineIsKept) {
  const TemporaryDirectory directory;
  write_bytes(directory / "r.jsonl", record(0).dump());
  {
    RecordLog log(directory / "r.jsonl");
    EXPECT_TRUE(log.contains(record(0)));
    log.append(record(1));
    log.append(record(2));
  }
  EXPECT_EQ(read_records(directory / "r.jsonl").size(), 3U);
}

// Given: a FIFO, a device, a folder, a dangling link, and a log that gets no record. Claim: the first three are refused
// at once and stay; the others leave no file behind, but keep one that was there.
TEST(RecordLog, FilesAlone) {
  const TemporaryDirectory directory;
  ASSERT_EQ(mkfifo((directory / "fifo").c_str(), 0644), 0);
  EXPECT_NE(refusal(directory / "fifo").find("wanted a file, found a FIFO"), std::string::npos);
  EXPECT_NE(refusal("/dev/full").find("wanted a file, found a device"), std::string::npos);
  EXPECT_NE(refusal("/dev/null").find("wanted a file, found a device"), std::string::npos);
  std::filesystem::create_symlink(directory / "target", directory / "link");
  EXPECT_EQ(refusal(directory / "link"), "not refused");
  EXPECT_FALSE(std::filesystem::exists(directory / "target"));
  EXPECT_TRUE(std::filesystem::is_symlink(directory / "link"));
  EXPECT_EQ(refusal(directory / "new"), "not refused");
  EXPECT_FALSE(std::filesystem::exists(directory / "new"));
  write_bytes(directory / "empty", "");
  EXPECT_EQ(refusal(directory / "empty"), "not refused");
  EXPECT_TRUE(std::filesystem::exists(directory / "empty"));
}

// Given: names that are no UTF-8. Claim: they are kept in escaped form, cells stay apart and are found again.
TEST(RecordLog, NamesThatAreNoUtf8) {
  const TemporaryDirectory directory;
  Json first = record(0), second = record(0);
  first["input"]["capture"] = "caf\xe9";
  second["input"]["capture"] = "caf\xe8";
  EXPECT_NE(cell_identity(first), cell_identity(second));
  {
    RecordLog log(directory / "r.jsonl");
    EXPECT_TRUE(log.append(first));
    EXPECT_FALSE(log.contains(second));
  }
  RecordLog log(directory / "r.jsonl");
  EXPECT_TRUE(log.contains(first));
  EXPECT_FALSE(log.contains(second));
  EXPECT_EQ(read_records(directory / "r.jsonl").at(0)["input"]["capture"], "caf\\xe9");
}

// Given: a limit on the file's size in the middle of a line. Claim: the failed line leaves nothing behind.
TEST(RecordLog, AFailedWriteLeavesNoHalfLine) {
  const TemporaryDirectory directory;
  RecordLog log(directory / "r.jsonl");
  log.append(record(0));
  const auto size = std::filesystem::file_size(directory / "r.jsonl");
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit tight{size + 10, before.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &tight);
  EXPECT_THROW(log.append(record(1)), UsageError);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(std::filesystem::file_size(directory / "r.jsonl"), size);
  EXPECT_FALSE(log.contains(record(1)));
}

// Given: records compressed by gzip, in one member and in two. Claim: they are read as plain ones; a file that is cut,
// damaged or no gzip is refused in one line, and nothing is appended to any.
TEST(ReadRecords, Compressed) {
  const TemporaryDirectory directory;
  const auto compress = [&](const std::string& name, const std::vector<std::string>& members) {
    const std::string path = (directory / name).string();
    std::filesystem::remove(path);
    for (const std::string& text : members) {
      gzFile file = gzopen(path.c_str(), "ab9");
      EXPECT_EQ(gzwrite(file, text.data(), static_cast<unsigned>(text.size())), static_cast<int>(text.size()));
      EXPECT_EQ(gzclose(file), Z_OK);
    }
    return path;
  };
  std::string many;
  for (int head = 0; head < 3000; ++head) many += record(head).dump() + "\n";  // longer than the reader's buffer
  EXPECT_EQ(read_records(compress("one.jsonl.gz", {many})).size(), 3000U);
  const std::vector<Json> two = read_records(compress("two.jsonl.gz", {many, record(7).dump()}));
  ASSERT_EQ(two.size(), 3001U);
  EXPECT_EQ(two.back()["input"]["head"], 7);
  const std::string path = (directory / "two.jsonl.gz").string(), whole = read_text(path);
  const auto refused = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    try {
      static_cast<void>(read_records(path));
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("not refused");
  };
  EXPECT_NE(refused(whole.substr(0, whole.size() - 9)).find("found the file's end"), std::string::npos);
  std::string damaged = whole;
  damaged[whole.size() / 2] ^= 0x55;
  EXPECT_NE(refused(damaged).find("two.jsonl.gz: line "), std::string::npos);  // by zlib, or by the record's rules
  EXPECT_NE(refused("{}\n").find("wanted what gzip made, found damage"), std::string::npos);
  EXPECT_EQ(refused(""), "not refused");  // no record, as an empty plain file
  EXPECT_THROW(RecordLog{path}, UsageError);
}

// Given: a file of records, one with arrays, whose last line has no end yet. Claim: all come back in order, without
// the arrays, also line by line. A missing file, a directory and a line that a kill cut short are refused in one line.
TEST(ReadRecords, InOrderOrRefused) {
  const TemporaryDirectory directory;
  const std::string path = (directory / "r.jsonl").string();
  Json with_arrays = record(1);
  with_arrays["arrays"] = {{"mask", Json::array({"1"})}};
  write_bytes(path, record(0).dump() + "\n" + with_arrays.dump());
  const std::vector<Json> records = read_records(path);
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0]["input"]["head"], 0);
  EXPECT_EQ(records[1]["input"]["head"], 1);
  EXPECT_FALSE(records[1].contains("arrays"));
  std::size_t arrays = 0;
  for_each_record(path, [&](const Json& found) { arrays += found.contains("arrays") ? 1 : 0; });
  EXPECT_EQ(arrays, 1U);
  const auto refused = [](const std::string& file) {
    try {
      static_cast<void>(read_records(file));
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("not refused");
  };
  const std::string missing = (directory / "none.jsonl").string();
  EXPECT_EQ(refused(missing), missing + ": records cannot be read: No such file or directory");
  EXPECT_EQ(refused(directory.path().string()), directory.path().string() + ": records cannot be read: Is a directory");
  const std::string fifo = (directory / "fifo").string();
  ASSERT_EQ(mkfifo(fifo.c_str(), 0644), 0);
  EXPECT_EQ(refused(fifo), fifo + ": records cannot be read: wanted a file, found a FIFO") << "nobody writes to it";
  EXPECT_EQ(refused("/dev/null"), "/dev/null: records cannot be read: wanted a file, found a device");
  write_bytes(path, record(0).dump() + "\n" + record(1).dump().substr(0, 40));
  EXPECT_EQ(refused(path), path + ": line 2: run: wanted a whole JSON value, found its beginning");
}

// Given: no path. Claim: cells are remembered in this run, nothing is written.
TEST(RecordLog, WithoutAFileRemembersInMemory) {
  RecordLog log("");
  EXPECT_TRUE(log.append(record(0)));
  EXPECT_TRUE(log.contains(record(0)));
  EXPECT_FALSE(log.append(record(1, 0.9, {{"a", std::nan("")}})));
}

// Given: metrics that cannot be, in a record that has failed for another reason, and a metric that is relative to
// nothing. Claim: the first is failed for both reasons and keeps the value; the second is no failure.
TEST(RecordLog, ImpossibleMetricsFailTheirRecord) {
  const TemporaryDirectory directory;
  {
    RecordLog log(directory / "r.jsonl");
    Json failed = record(0, 0.9, {{"attention_recall", 2.08}});
    failed["status"] = "failed";
    failed["reason"] = "first";
    EXPECT_FALSE(log.append(failed));
    EXPECT_TRUE(log.append(record(1, 0.9, {{"output_rel_l2", "not_applicable"}})));
    EXPECT_EQ(log.size(), 1U);
  }
  const std::vector<Json> lines = read_records(directory / "r.jsonl");
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0]["status"], "failed");
  EXPECT_EQ(lines[0]["reason"], "first; metric attention_recall is 2.08, possible are 0 to 1");
  EXPECT_EQ(lines[0]["metrics"]["attention_recall"], 2.08);
  EXPECT_EQ(lines[1]["status"], "ok");
  EXPECT_EQ(lines[1]["metrics"]["output_rel_l2"], "not_applicable");
}

}  // namespace
}  // namespace draft
