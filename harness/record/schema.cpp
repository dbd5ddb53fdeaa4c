#include "harness/record/schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "harness/options.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kShownBytes = 60;

/// Short enough for a line.
std::string found_text(const Json& value) {
  if (value.is_object() || value.is_array()) {
    return fmt::format("{} of {}", value.is_object() ? "an object" : "a list", value.size());
  }
  return one_line(value).substr(0, kShownBytes);
}

/// Not more than json holds: from -2^63 to 2^64 - 1.
bool is_whole(const Json& value) { return value.is_number_integer(); }
/// JSON's -0 and 0 are both at least 0.
bool is_whole_from(const Json& value, int least) {
  return is_whole(value) && (value.is_number_unsigned() ? value.get<std::uint64_t>() >= static_cast<unsigned>(least)
                                                        : value.get<std::int64_t>() >= least);
}
bool is_text(const Json& value) { return value.is_string(); }
bool is_object(const Json& value) { return value.is_object(); }
bool is_count(const Json& value) { return is_whole_from(value, 0); }
bool is_side(const Json& value) { return is_whole_from(value, 1); }
bool is_amount(const Json& value) { return is_finite(value) && value.get<double>() >= 0.0; }
bool is_above_zero(const Json& value) { return is_finite(value) && value.get<double>() > 0.0; }
bool is_list_of(const Json& value, bool (*fits)(const Json& value)) {
  return value.is_array() && std::all_of(value.begin(), value.end(), fits);
}
bool is_list_of_numbers(const Json& value) { return is_list_of(value, is_finite); }
bool is_row_of_bits(const Json& value) {
  return is_text(value) && value.get_ref<const std::string&>().find_first_not_of("01") == std::string::npos;
}

struct Kind {
  std::string_view wanted;
  bool (*fits)(const Json& value);
};
struct Field {
  std::string_view key;
  Kind kind;
};

constexpr Kind kText{"text", is_text};
constexpr Kind kObject{"an object", is_object};
constexpr Kind kWhole{"a whole number", is_whole};
constexpr Kind kCount{"a whole number of at least 0", is_count};
constexpr Kind kSide{"a whole number of at least 1", is_side};
constexpr Kind kNumber{"a finite number", is_finite};
constexpr Kind kAmount{"a finite number of at least 0", is_amount};
constexpr Kind kAboveZero{"a finite number above 0", is_above_zero};
constexpr Kind kNumbers{"a list of finite numbers", is_list_of_numbers};
constexpr Kind kShare{"a number from 0 to 1",
                      [](const Json& value) { return is_amount(value) && value.get<double>() <= 1.0; }};
constexpr Kind kSparsity{"a number from 0 to below 1",
                         [](const Json& value) { return is_amount(value) && value.get<double>() < 1.0; }};
constexpr Kind kRegion{"two whole numbers of at least 1",
                       [](const Json& value) { return is_list_of(value, is_side) && value.size() == 2; }};
constexpr Kind kTexts{"a list of texts", [](const Json& value) { return is_list_of(value, is_text); }};
constexpr Kind kFlag{"true or false", [](const Json& value) { return value.is_boolean(); }};
constexpr Kind kHeads{"a whole number of at least 0, or text",
                      [](const Json& value) { return is_count(value) || is_text(value); }};

// The tables below are those of scripts/record_format.py; scripts/record_rules_cases.py holds both to one another.
constexpr std::array kRequired{
    Field{"schema", {"1", [](const Json& value) { return is_whole(value) && value == kRecordSchema; }}},
    Field{"experiment", {"a name", [](const Json& value) { return is_text(value) && value != ""; }}},
    Field{"input", kObject}, Field{"config", kObject}, Field{"status", {"ok, failed or skipped", [](const Json& value) {
                                                                          return value == "ok" || value == "failed" ||
                                                                                 value == "skipped";
                                                                        }}}};

constexpr std::array kOptional{
    Field{"metrics", kObject},
    Field{"timing", kObject},
    Field{"machine", kObject},
    Field{"build", kObject},
    Field{"arrays", kObject},
    Field{"time", kText},
    Field{"reason", kText},
    Field{"notes", {"an object or text", [](const Json& value) { return is_object(value) || is_text(value); }}}};

constexpr std::array kInput{Field{"dump", kText},        Field{"sha256", kText},       Field{"capture", kText},
                            Field{"model", kText},       Field{"resolution", kText},   Field{"shape", kText},
                            Field{"data", kText},        Field{"prompts", kText},      Field{"weights_sha256", kText},
                            Field{"layer", kWhole},      Field{"step", kWhole},        Field{"steps", kWhole},
                            Field{"model_head", kWhole}, Field{"head", kCount},        Field{"heads", kCount},
                            Field{"head_dim", kCount},   Field{"text_tokens", kCount}, Field{"tokens", kCount},
                            Field{"layers", kCount},     Field{"clips", kCount},       Field{"batch", kCount},
                            Field{"first_seed", kCount}, Field{"probe_clips", kCount}, Field{"frames", kSide},
                            Field{"height", kSide},      Field{"width", kSide},        Field{"grid", kObject},
                            Field{"shift", kNumber}};

constexpr std::array kGrid{Field{"frames", kSide}, Field{"height", kSide}, Field{"width", kSide}};

constexpr std::array kConfig{Field{"policy", kText},
                             Field{"pool", kText},
                             Field{"rule", kText},
                             Field{"kernel", kText},
                             Field{"device", kText},
                             Field{"order", kText},
                             Field{"element", kText},
                             Field{"part", kText},
                             Field{"method", kText},
                             Field{"model", kText},
                             Field{"resolution", kText},
                             Field{"counting", kText},
                             Field{"region", kRegion},
                             Field{"sparsity", kSparsity},
                             Field{"seed", kCount},
                             Field{"seconds", kAmount},
                             Field{"sustain_ms", kAboveZero},
                             Field{"dense_steps", kShare},
                             Field{"heads", kHeads}};

constexpr std::array kTiming{Field{"median_ms", kAboveZero},   Field{"p10_ms", kAboveZero}, Field{"p90_ms", kAboveZero},
                             Field{"tflops_kept", kAmount},    Field{"warmup", kAmount},    Field{"l2_flush", kAmount},
                             Field{"calls_per_sample", kCount}};

constexpr std::array kMachine{Field{"gpu", kText},
                              Field{"cpu", kText},
                              Field{"driver", kText},
                              Field{"sm_clock_before_mhz", kNumber},
                              Field{"sm_clock_after_mhz", kNumber},
                              Field{"power_before_w", kNumber},
                              Field{"power_after_w", kNumber},
                              Field{"throttle_reasons", kTexts}};

constexpr std::array kBuild{Field{"commit", kText}, Field{"dirty", kFlag}, Field{"compiler", kText}};

constexpr std::array kArrays{Field{"psnr", kNumbers},         Field{"ssim", kNumbers},
                             Field{"lpips", kNumbers},        Field{"distance", kNumbers},
                             Field{"one_step", kNumbers},     Field{"contrast", kNumbers},
                             Field{"psnr_matched", kNumbers}, Field{"effective_blocks", kNumbers}};

// Of one head: square, and all of one size.
constexpr std::array kMaps{Field{"draft_map", {"rows of finite numbers", is_list_of_numbers}},
                           Field{"block_mass", {"rows of finite numbers", is_list_of_numbers}},
                           Field{"mask", {"rows of 0 and 1", is_row_of_bits}}};

/// Null is the same as no such member.
const Json* member(const Json& object, std::string_view key) {
  const auto found = object.find(std::string(key));
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

/// The first of the fields that `object` has with another kind of value. Null is the same as no value.
template <std::size_t kFields>
std::optional<FieldFault> wrong_kind(const Json& object, const std::string& prefix,
                                     const std::array<Field, kFields>& fields) {
  for (const auto& [key, kind] : fields) {
    const Json* value = member(object, key);
    if (value != nullptr && !kind.fits(*value)) {
      return FieldFault{prefix + std::string(key), std::string(kind.wanted), found_text(*value)};
    }
  }
  return std::nullopt;
}

std::optional<FieldFault> wrong_metric(const Json* metrics) {
  if (metrics == nullptr) return std::nullopt;
  for (const auto& [name, value] : metrics->items()) {
    if (is_finite(value) || value == kNotApplicable) continue;
    return FieldFault{"metrics." + name, fmt::format("a finite number or \"{}\"", kNotApplicable), found_text(value)};
  }
  return std::nullopt;
}

std::optional<FieldFault> wrong_sample(const Json* timing) {
  const Json* samples = timing != nullptr ? member(*timing, "samples_ms") : nullptr;
  if (samples == nullptr) return std::nullopt;
  if (!samples->is_array() || samples->empty()) {
    return FieldFault{"timing.samples_ms", "a list of numbers above 0", found_text(*samples)};
  }
  for (std::size_t i = 0; i < samples->size(); ++i) {
    if (is_above_zero((*samples)[i])) continue;
    return FieldFault{fmt::format("timing.samples_ms[{}]", i), "a number above 0", found_text((*samples)[i])};
  }
  return std::nullopt;
}

std::optional<FieldFault> wrong_map(const Json* arrays) {
  if (arrays == nullptr) return std::nullopt;
  std::size_t side = 0;
  for (const auto& [key, row] : kMaps) {
    const Json* rows = member(*arrays, key);
    if (rows == nullptr) continue;
    const std::string field = "arrays." + std::string(key);
    if (!is_list_of(*rows, row.fits) || rows->empty()) {
      return FieldFault{field, std::string(row.wanted), found_text(*rows)};
    }
    side = side == 0 ? rows->size() : side;
    const std::string wanted = fmt::format("{} rows of {}", side, side);
    if (rows->size() != side) return FieldFault{field, wanted, fmt::format("{} rows", rows->size())};
    for (const Json& one : *rows) {
      const std::size_t length = one.is_string() ? one.get_ref<const std::string&>().size() : one.size();
      if (length != side) return FieldFault{field, wanted, fmt::format("a row of {}", length)};
    }
  }
  return std::nullopt;
}

/// What is wrong with the members that are there.
std::optional<FieldFault> member_fault(const Json& record) {
  if (const Json* schema = member(record, "schema"); schema != nullptr && is_whole_from(*schema, kRecordSchema + 1)) {
    return FieldFault{"schema", fmt::format("{}, which this version reads", kRecordSchema),
                      fmt::format("the later {}", found_text(*schema))};
  }
  const auto inside = [&](const char* key, const auto& fields) {
    const Json* object = member(record, key);
    return object == nullptr ? std::nullopt : wrong_kind(*object, std::string(key) + ".", fields);
  };
  std::optional<FieldFault> fault = wrong_kind(record, "", kRequired);
  if (!fault) fault = wrong_kind(record, "", kOptional);
  if (!fault) fault = inside("input", kInput);
  if (const Json* input = member(record, "input"); !fault && input != nullptr) {
    if (const Json* grid = member(*input, "grid")) fault = wrong_kind(*grid, "input.grid.", kGrid);
  }
  if (!fault) fault = inside("config", kConfig);
  if (!fault) fault = wrong_metric(member(record, "metrics"));
  if (!fault) fault = inside("timing", kTiming);
  if (!fault) fault = wrong_sample(member(record, "timing"));
  if (!fault) fault = inside("machine", kMachine);
  if (!fault) fault = inside("build", kBuild);
  if (!fault) fault = inside("arrays", kArrays);
  if (!fault) fault = wrong_map(member(record, "arrays"));
  return fault;
}

[[noreturn]] void refuse(const std::filesystem::path& path, int number, const FieldFault& fault) {
  throw UsageError(fmt::format("{}: line {}: {}{}wanted {}, found {}", shown(path.string()), number, shown(fault.field),
                               fault.field.empty() ? "" : ": ", fault.wanted, shown(fault.found)));
}

}  // namespace

std::optional<FieldFault> record_fault(const Json& record) {
  if (!record.is_object()) return FieldFault{"", "one JSON object", record.type_name()};
  std::optional<FieldFault> fault = member_fault(record);
  for (const auto& [key, kind] : kRequired) {
    if (fault || member(record, key) != nullptr) continue;
    fault = FieldFault{std::string(key), std::string(kind.wanted),
                       record.contains(std::string(key)) ? "null" : "no such key"};
  }
  // What failed or was skipped, or was timed alone, may have none.
  const Json* timing = fault ? nullptr : member(record, "timing");
  const bool is_timed = timing != nullptr && !timing->empty();
  if (!fault && record["status"] == "ok" && !member(record, "metrics") && !is_timed) {
    fault = FieldFault{"metrics", std::string(kObject.wanted), "no such key"};
  }
  return fault;
}

Json parse_record(const std::filesystem::path& path, int number, const std::string& line, const std::string& left_out) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";  // of byte order: at the beginning of a file alone
  if (number > 1 && line.starts_with(kMark)) refuse(path, number, {"", "one JSON object", "a mark of byte order"});
  JsonText text = read_json(line);
  if (text.fault) {
    if (text.fault->field.empty()) text.fault = FieldFault{"", "one JSON object", "something else"};
    refuse(path, number, *text.fault);
  }
  if (const std::optional<FieldFault> fault = record_fault(text.value)) refuse(path, number, *fault);
  if (!left_out.empty()) text.value.erase(left_out);
  return std::move(text.value);
}

bool begins_record(const std::string& line) {
  const JsonText text = read_json(line);
  if (!text.fault || !text.ended) return false;
  // The first two names, as far as they got.
  constexpr std::string_view kBegin = "{\"schema\":1,\"experiment\":\"";
  std::string compact;
  for (const char c : line) {
    if (compact.size() == kBegin.size()) break;
    if (c != ' ' && c != '\t' && c != '\r') compact += c;
  }
  if (compact.empty() || !kBegin.starts_with(compact)) return false;
  return !text.value.is_object() || !member_fault(text.value);
}

}  // namespace draft
