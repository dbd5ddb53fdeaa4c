#pragma once
// Records: what a run leaves behind, JSON Lines, one object for each measured cell. Never edited.

#include <filesystem>
#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

#include "harness/record/metric_value.hpp"
#include "harness/record/schema.hpp"

namespace draft {

struct Options;

/// A record with schema, run, status "ok", machine, build and time filled in. `input`, `config` and `metrics` as
/// record.schema.json has them; a metric is a number or kNotApplicable.
Json make_record(const std::string& experiment, Json input, Json config, Json metrics);

/// Turns a record into one of a cell that was not measured, and says why.
Json skipped(Json record, const std::string& reason);

/// The value under the key; null if there is none or `object` is no object.
const Json& part(const Json& object, const char* key);

/// What a record measures: the experiment, its input and the whole config, whatever the order of the keys and however
/// numbers are written; null is the same as no value. A dump is known by its content (sha256, capture, head), not by
/// its name; other inputs by all that they say.
std::string measured_cell(const Json& record);

/// Which cell a record is of: what it measures, and on which GPU where config.device is cuda. A later record with the
/// same identity takes the place of an earlier one. A record without `machine` is one that this program would make.
/// scripts/record_format.py has the same identity.
std::string cell_identity(const Json& record);

/// The JSON text of a record or of a part of one. Text in it that is no UTF-8 becomes its escaped form (shown()), so
/// that records, and the identities of cells, can be made of any names.
std::string record_line(const Json& value);

/// Visits a file's lines in order, one in memory at a time. Throws UsageError if it is no file or cannot be read.
void for_each_line(const std::filesystem::path& path, const std::function<void(int number, const std::string&)>& visit);

/// Visits a file's records in order, one in memory at a time, without the key `left_out`. Throws UsageError, with the
/// line and the field, if the file cannot be read or a line is no record (parse_record); an incomplete last line is
/// refused as well.
void for_each_record(const std::filesystem::path& path, const std::function<void(Json record)>& visit,
                     const std::string& left_out = "");

/// All records of a file, in order, without their `arrays` (whole maps). Throws as for_each_record.
std::vector<Json> read_records(const std::filesystem::path& path);

/// Whether cells that another build measured count as done.
enum class OtherBuilds { measured_again, done };

/// The records of one file, and new ones appended to it. One log holds the file at a time.
class RecordLog {
 public:
  /// Nothing is remembered between runs and nothing is written.
  RecordLog() = default;
  /// Opens or creates the file and remembers which cells are done. A last line that is the beginning of a record,
  /// left by a kill, is cut off and reported on stderr; a last record that lacks only its line's end gets one before
  /// the next. A file that was created and got no record is removed again. An empty path is the same as no path. Throws
  /// UsageError, and leaves the file as it is, if it cannot be opened, is no file, is being written by another run, is
  /// where stdout or stderr goes, or has a line that is no record (parse_record).
  explicit RecordLog(const std::filesystem::path& path, OtherBuilds others = OtherBuilds::measured_again);
  RecordLog(RecordLog&& other) noexcept;
  RecordLog& operator=(RecordLog&&) = delete;
  ~RecordLog();

  /// The cell of this record is done: ok or skipped, measured by this build on this GPU. Failed cells are to be run
  /// again, as are another build's, which is said on stderr once.
  [[nodiscard]] bool contains(const Json& record);
  /// Whether this record of the file makes its cell done.
  [[nodiscard]] bool is_done(const Json& record) const;
  /// Cells that are done.
  [[nodiscard]] std::size_t size() const { return done_.size(); }

  /// Writes one line at once. A metric that is not finite or cannot be (metric_table.hpp) makes the record a failure:
  /// status "failed", and the metric's name and value as the reason. What is not finite is left out. Returns false for
  /// such a record. Throws UsageError if the line cannot be written; what was written of it is cut off again.
  bool append(Json record);

 private:
  [[noreturn]] void refuse(const std::string& why) const;
  void open_file();
  void close_file();
  void read_lines();
  void write_line(const std::string& line);

  std::filesystem::path path_;
  OtherBuilds others_ = OtherBuilds::measured_again;
  int file_ = -1;
  bool created_ = false;    // by this log
  bool lacks_end_ = false;  // the last line is whole but for its end
  std::unordered_set<std::string> done_, of_other_builds_;
};

/// The log of --out, as --any-build has it. Throws as RecordLog.
RecordLog open_log(const Options& options);

}  // namespace draft
