#include "harness/record.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <utility>

#include "harness/metric_table.hpp"
#include "harness/options.hpp"
#include "harness/provenance.hpp"

namespace draft {
namespace {

constexpr int kSchema = 1;

/// nlohmann::json sorts its keys: the same content gives the same text whatever the order it came in.
nlohmann::json sorted(const Json& value) { return nlohmann::json::parse(value.dump()); }

bool is_done(const Json& record) {
  const Json& status = part(record, "status");
  return status == "ok" || status == "skipped";
}

/// Takes what is not finite, and so has no text in JSON, out of the metrics.
void remove_non_finite(Json& metrics) {
  Json finite = Json::object();
  for (const auto& [name, value] : metrics.items()) {
    if (!value.is_number_float() || std::isfinite(value.get<double>())) finite[name] = value;
  }
  metrics = std::move(finite);
}

/// The record that a line of the file holds.
Json parse_record(const std::filesystem::path& path, int number, const std::string& line) {
  Json record = Json::parse(line, nullptr, false);
  if (!record.is_object()) {
    throw UsageError(fmt::format("{}: line {}: wanted one JSON object, found {}", path.string(), number,
                                 record.is_discarded() ? "something else" : record.type_name()));
  }
  return record;
}

}  // namespace

Json make_record(const std::string& experiment, Json input, Json config, Json metrics) {
  static const Json machine = machine_info();
  static const Json build = build_info();
  Json record;
  record["schema"] = kSchema;
  record["experiment"] = experiment;
  record["input"] = std::move(input);
  record["config"] = std::move(config);
  record["metrics"] = std::move(metrics);
  record["status"] = "ok";
  record["machine"] = machine;
  record["build"] = build;
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

std::string cell_identity(const Json& record) {
  const Json& input = part(record, "input");
  nlohmann::json identity = nlohmann::json::array();
  identity.push_back(sorted(part(record, "experiment")));
  for (const char* key : {"sha256", "capture", "head"}) identity.push_back(sorted(part(input, key)));
  identity.push_back(sorted(part(record, "config")));
  return identity.dump();
}

void for_each_record(const std::filesystem::path& path, const std::function<void(Json record)>& visit) {
  const auto refuse = [&](const std::string& why) {
    throw UsageError(fmt::format("{}: records cannot be read: {}", path.string(), why));
  };
  if (std::filesystem::is_directory(path)) refuse(std::strerror(EISDIR));
  std::ifstream lines(path);
  if (!lines) refuse(std::strerror(errno));
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) visit(parse_record(path, number, line));
  if (lines.bad()) refuse("reading failed");
}

std::vector<Json> read_records(const std::filesystem::path& path) {
  std::vector<Json> records;
  for_each_record(path, [&](Json record) {
    record.erase("arrays");
    records.push_back(std::move(record));
  });
  return records;
}

RecordLog::RecordLog(const std::filesystem::path& path) : path_(path) {
  if (path.empty()) return;
  const auto refuse = [&](const std::string& why) { throw UsageError(fmt::format("{}: {}", path.string(), why)); };
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file_ < 0) refuse(fmt::format("records cannot be written here: {}", std::strerror(errno)));
  try {
    if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
      refuse(errno == EWOULDBLOCK ? "is being written by another run"
                                  : std::string("cannot be locked: ") + std::strerror(errno));
    }
    read_lines();
  } catch (...) {
    ::close(file_);
    throw;
  }
}

RecordLog::RecordLog(RecordLog&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), done_(std::move(other.done_)) {}

RecordLog::~RecordLog() {
  if (file_ >= 0) ::close(file_);
}

void RecordLog::read_lines() {
  std::ifstream lines(path_);
  std::string line;
  off_t whole = 0;  // bytes up to the end of the last complete line
  for (int number = 1; std::getline(lines, line); ++number) {
    if (lines.eof()) {
      fmt::print(stderr, "{}: cut an incomplete last line ({} bytes) that an interrupted run left\n", path_.string(),
                 line.size());
      if (::ftruncate(file_, whole) != 0) {
        throw UsageError(fmt::format("{}: cannot be cut: {}", path_.string(), std::strerror(errno)));
      }
      return;
    }
    whole += static_cast<off_t>(line.size()) + 1;
    const Json record = parse_record(path_, number, line);
    if (is_done(record)) done_.insert(cell_identity(record));
  }
}

void RecordLog::write_line(const std::string& line) {
  const off_t before = ::lseek(file_, 0, SEEK_END);
  const ssize_t written = ::write(file_, line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) return;
  const std::string why = written < 0 ? std::strerror(errno) : "no space";
  const bool cut = before >= 0 && ::ftruncate(file_, before) == 0;
  throw UsageError(fmt::format("{}: a record cannot be written: {}{}", path_.string(), why,
                               cut ? "" : " (an incomplete line is left)"));
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
  if (file_ >= 0) write_line(record.dump() + "\n");
  if (is_done(record)) done_.insert(cell_identity(record));
  return failure.empty();
}

}  // namespace draft
