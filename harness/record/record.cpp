#include "harness/record/record.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>

#include "harness/options.hpp"
#include "harness/record/line_reader.hpp"
#include "harness/record/metric_table.hpp"
#include "harness/record/provenance.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

/// Whole numbers as whole ones, whether they were written 0, 0.0 or -0.0; others, and those beyond 64 bits, stay.
/// Members that are null go.
void make_plain(nlohmann::json& value) {
  if (value.is_number_float()) {
    const auto number = value.get<double>();
    if (number != std::trunc(number)) return;
    if (number >= -0x1p63 && number < 0x1p63) {
      value = static_cast<std::int64_t>(number);
    } else if (number > 0.0 && number < 0x1p64) {
      value = static_cast<std::uint64_t>(number);
    }
  } else if (value.is_structured()) {
    if (value.is_object()) {
      for (auto member = value.begin(); member != value.end();) {
        member = member->is_null() ? value.erase(member) : std::next(member);
      }
    }
    for (nlohmann::json& member : value) make_plain(member);
  }
}

/// The same content as one text, whatever the order its keys came in (nlohmann::json sorts them) and however its
/// numbers are written.
std::string sorted_text(const Json& value) {
  auto sorted = nlohmann::json::parse(record_line(value));
  make_plain(sorted);
  return sorted.dump();
}

const Json& this_machine() {
  static const Json machine = machine_info();
  return machine;
}

const Json& this_build() {
  static const Json build = build_info();
  return build;
}

bool is_this_build(const Json& record) {
  static const std::string own = sorted_text(this_build());
  return sorted_text(part(record, "build")) == own;
}

/// Takes what is not finite, and so has no text in JSON, out of the metrics.
void remove_non_finite(Json& metrics) {
  Json finite = Json::object();
  for (const auto& [name, value] : metrics.items()) {
    if (!value.is_number_float() || std::isfinite(value.get<double>())) finite[name] = value;
  }
  metrics = std::move(finite);
}

/// Text that is no UTF-8, such as a file's name in another encoding, cannot stand in JSON: its escaped form does.
void escape_what_is_no_utf8(Json& value) {
  if (value.is_string()) {
    auto& text = value.get_ref<std::string&>();
    if (!is_utf8(text)) text = shown(text);
  } else if (value.is_array()) {
    for (Json& part_of_it : value) escape_what_is_no_utf8(part_of_it);
  } else if (value.is_object()) {
    Json fixed = Json::object();
    for (auto& [key, member] : value.items()) {
      escape_what_is_no_utf8(member);
      fixed[is_utf8(key) ? key : shown(key)] = std::move(member);
    }
    value = std::move(fixed);
  }
}

const char* kind_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

/// Why nothing is read from it or written to it; "" for a file. A FIFO or a device would be waited for, or swallow what
/// is written.
std::string why_no_file(const struct stat& found) {
  if (S_ISREG(found.st_mode)) return "";
  if (S_ISDIR(found.st_mode)) return std::strerror(EISDIR);
  return fmt::format("wanted a file, found {}", kind_of_file(found.st_mode));
}

bool is_same_file(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

}  // namespace

std::string record_line(const Json& value) {
  try {
    return value.dump();
  } catch (const Json::type_error&) {  // nlohmann's way of saying that some text is no UTF-8
    Json escaped = value;
    escape_what_is_no_utf8(escaped);
    return escaped.dump();
  }
}

Json make_record(const std::string& experiment, Json input, Json config, Json metrics) {
  Json record;
  record["schema"] = kRecordSchema;
  record["experiment"] = experiment;
  record["run"] = run_id();
  record["input"] = std::move(input);
  record["config"] = std::move(config);
  record["metrics"] = std::move(metrics);
  record["status"] = "ok";
  record["machine"] = this_machine();
  record["build"] = this_build();
  record["time"] = utc_time();
  return record;
}

Json skipped(Json record, const std::string& reason) {
  record["status"] = "skipped";
  record["reason"] = reason;
  return record;
}

const Json& part(const Json& object, const char* key) {
  static const Json nothing;
  if (!object.is_object()) return nothing;
  const auto found = object.find(key);
  return found == object.end() ? nothing : *found;
}

std::string measured_cell(const Json& record) {
  const Json& input = part(record, "input");
  Json content = input;
  if (part(input, "sha256").is_string()) {
    content = Json::object();
    for (const char* key : {"sha256", "capture", "head"}) content[key] = part(input, key);
  }
  return sorted_text({part(record, "experiment"), content, part(record, "config")});
}

std::string cell_identity(const Json& record) {
  const bool on_gpu = part(part(record, "config"), "device") == "cuda";
  const Json& machine = record.contains("machine") ? part(record, "machine") : this_machine();
  return measured_cell(record) + (on_gpu ? sorted_text(part(machine, "gpu")) : "");
}

void for_each_line(const std::filesystem::path& path, const std::function<void(int, const std::string&)>& visit) {
  const auto refuse = [&](const std::string& why) {
    if (!why.empty()) throw UsageError(fmt::format("{}: records cannot be read: {}", shown(path.string()), why));
  };
  struct stat found {};
  if (::stat(path.c_str(), &found) == 0) refuse(why_no_file(found));  // to open a device may do something already
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) refuse(std::strerror(errno));
  const auto close_file = [](const int* open) { ::close(*open); };
  const std::unique_ptr<const int, decltype(close_file)> closing(&file, close_file);
  if (::fstat(file, &found) == 0) refuse(why_no_file(found));
  LineReader lines(file, path);
  for (std::string line; lines.next(line);) visit(lines.number(), line);
}

void for_each_record(const std::filesystem::path& path, const std::function<void(Json record)>& visit,
                     const std::string& left_out) {
  for_each_line(path, [&](int number, const std::string& line) { visit(parse_record(path, number, line, left_out)); });
}

std::vector<Json> read_records(const std::filesystem::path& path) {
  std::vector<Json> records;
  for_each_record(path, [&](Json record) { records.push_back(std::move(record)); }, "arrays");
  return records;
}

RecordLog::RecordLog(const std::filesystem::path& path, OtherBuilds others) : path_(path), others_(others) {
  if (path.empty()) return;
  try {
    open_file();
    read_lines();
  } catch (...) {
    close_file();
    throw;
  }
}

void RecordLog::refuse(const std::string& why) const {
  throw UsageError(fmt::format("{}: {}", shown(path_.string()), why));
}

void RecordLog::open_file() {
  const auto refuse_to_write = [&](const std::string& why) {
    refuse(fmt::format("records cannot be written here: {}", why));
  };
  if (is_compressed(path_)) refuse_to_write("nothing is appended to what is compressed: gunzip it first");
  struct stat held {
  }, named{};
  do {
    close_file();
    const bool is_there = ::stat(path_.c_str(), &named) == 0;
    if (is_there) {
      if (const std::string why = why_no_file(named); !why.empty()) refuse_to_write(why);
    }
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0644);
    if (file_ < 0) refuse_to_write(std::strerror(errno));
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      refuse(error == EWOULDBLOCK ? "is being written by another run"
                                  : fmt::format("cannot be locked: {}", std::strerror(error)));
    }
    created_ = created_ || !is_there;
    // Between the opening and the lock another run may have taken its empty file away.
  } while (::fstat(file_, &held) != 0 || ::stat(path_.c_str(), &named) != 0 || !is_same_file(held, named));
  for (const auto& [standard, name] : {std::pair{STDOUT_FILENO, "stdout"}, {STDERR_FILENO, "stderr"}}) {
    if (::fstat(standard, &named) == 0 && is_same_file(held, named))
      refuse_to_write(fmt::format("{} goes there", name));
  }
}

void RecordLog::close_file() {
  if (file_ < 0) return;
  struct stat held {};
  if (created_ && ::fstat(file_, &held) == 0 && held.st_size == 0) {  // a run that measured nothing leaves nothing
    std::error_code ignored;
    std::filesystem::remove(std::filesystem::canonical(path_, ignored), ignored);
  }
  ::close(std::exchange(file_, -1));
}

RecordLog::RecordLog(RecordLog&& other) noexcept
    : path_(std::move(other.path_)),
      others_(other.others_),
      file_(std::exchange(other.file_, -1)),
      created_(other.created_),
      lacks_end_(other.lacks_end_),
      done_(std::move(other.done_)),
      of_other_builds_(std::move(other.of_other_builds_)) {}

RecordLog::~RecordLog() { close_file(); }

bool RecordLog::is_done(const Json& record) const {
  const Json& status = part(record, "status");
  return (status == "ok" || status == "skipped") && (others_ == OtherBuilds::done || is_this_build(record));
}

bool RecordLog::contains(const Json& record) {
  const std::string cell = cell_identity(record);
  if (done_.contains(cell)) return true;
  if (of_other_builds_.contains(cell)) {
    const std::string said =
        fmt::format("{}: what another build measured is measured again; --any-build keeps it\n", shown(path_.string()));
    std::fputs(said.c_str(), stderr);
    of_other_builds_.clear();
  }
  return false;
}

void RecordLog::read_lines() {
  LineReader lines(file_, path_);
  off_t whole = 0;  // bytes up to the end of the last complete line
  for (std::string line; lines.next(line);) {
    if (!lines.has_end() && begins_record(line)) {
      const std::string said = fmt::format("{}: cut an incomplete last line ({} bytes) that an interrupted run left\n",
                                           shown(path_.string()), line.size());
      std::fputs(said.c_str(), stderr);  // lost without harm if stderr cannot be written
      if (::ftruncate(file_, whole) != 0) refuse(fmt::format("cannot be cut: {}", std::strerror(errno)));
      return;
    }
    lacks_end_ = !lines.has_end();
    whole += static_cast<off_t>(line.size()) + 1;
    const Json record = parse_record(path_, lines.number(), line, "arrays");
    if (is_done(record)) {
      done_.insert(cell_identity(record));
    } else if (!is_this_build(record)) {
      of_other_builds_.insert(cell_identity(record));
    }
  }
}

void RecordLog::write_line(const std::string& line) {
  if (line.size() > kLongestLine) refuse(fmt::format("a record of {} bytes is longer than can be read", line.size()));
  const off_t before = ::lseek(file_, 0, SEEK_END);
  std::size_t done = 0;
  ssize_t written = 0;
  while (done < line.size() && written >= 0) {
    written = ::write(file_, line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR) written = 0;
    done += written > 0 ? static_cast<std::size_t>(written) : 0;
  }
  if (done == line.size()) return;
  const std::string why = std::strerror(errno);
  const bool cut = before >= 0 && ::ftruncate(file_, before) == 0;
  refuse(fmt::format("a record cannot be written: {}{}", why, cut ? "" : " (an incomplete line is left)"));
}

bool RecordLog::append(Json record) {
  std::string failure;
  if (record.contains("metrics")) {
    const Json& device = part(part(record, "config"), "device");
    failure = metrics_failure(record["metrics"], device.is_string() ? device.get<std::string>() : "");
    remove_non_finite(record["metrics"]);
  }
  if (!failure.empty()) {
    const Json& before = part(record, "reason");
    record["reason"] = before.is_string() ? before.get<std::string>() + "; " + failure : failure;
    record["status"] = "failed";
  }
  if (file_ >= 0) {
    write_line(fmt::format("{}{}\n", lacks_end_ ? "\n" : "", record_line(record)));
    lacks_end_ = false;
  }
  if (is_done(record)) done_.insert(cell_identity(record));
  return failure.empty();
}

RecordLog open_log(const Options& options) {
  return RecordLog(options.out, options.any_build ? OtherBuilds::done : OtherBuilds::measured_again);
}

}  // namespace draft
