#include "harness/record_schema.hpp"

#include <fmt/format.h>

#include <array>
#include <cmath>
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

bool is_share_left_out(const Json& value) {
  return is_finite(value) && value.get<double>() >= 0.0 && value.get<double>() < 1.0;
}
/// JSON's -0 and 0 are both at least 0.
bool is_whole(const Json& value, int least) {
  return value.is_number_integer() &&
         (value.is_number_unsigned() ? value.get<std::uint64_t>() >= static_cast<unsigned>(least)
                                     : value.get<std::int64_t>() >= least);
}
bool is_text(const Json& value) { return value.is_string(); }
bool is_object(const Json& value) { return value.is_object(); }
bool is_count(const Json& value) { return is_whole(value, 0); }
bool is_region(const Json& value) {
  return value.is_array() && value.size() == 2 && is_whole(value[0], 1) && is_whole(value[1], 1);
}

struct Kind {
  std::string_view key, wanted;
  bool (*fits)(const Json& value);
};

constexpr const char* kTextWanted = "text";
constexpr const char* kObjectWanted = "an object";
constexpr const char* kCountWanted = "a whole number of at least 0";

constexpr std::array kRequired{
    Kind{"schema", "1", [](const Json& value) { return value.is_number_integer() && value == kRecordSchema; }},
    Kind{"experiment", kTextWanted, is_text},
    Kind{"input", kObjectWanted, is_object},
    Kind{"config", kObjectWanted, is_object},
    Kind{"status", "ok, failed or skipped",
         [](const Json& value) { return value == "ok" || value == "failed" || value == "skipped"; }}};

constexpr std::array kOptional{Kind{"metrics", kObjectWanted, is_object}, Kind{"timing", kObjectWanted, is_object},
                               Kind{"machine", kObjectWanted, is_object}, Kind{"build", kObjectWanted, is_object},
                               Kind{"arrays", kObjectWanted, is_object},  Kind{"time", kTextWanted, is_text},
                               Kind{"reason", kTextWanted, is_text},
                               Kind{"notes", "an object or text", [](const Json& value) {
                                      return value.is_object() || value.is_string();
                                    }}};

constexpr std::array kInput{Kind{"dump", kTextWanted, is_text},
                            Kind{"sha256", kTextWanted, is_text},
                            Kind{"capture", kTextWanted, is_text},
                            Kind{"head", kCountWanted, is_count},
                            Kind{"layer", kCountWanted, is_count},
                            Kind{"step", kCountWanted, is_count}};

constexpr std::array kConfig{
    Kind{"policy", kTextWanted, is_text},
    Kind{"pool", kTextWanted, is_text},
    Kind{"rule", kTextWanted, is_text},
    Kind{"kernel", kTextWanted, is_text},
    Kind{"element", kTextWanted, is_text},
    Kind{"order", kTextWanted, is_text},
    Kind{"device", kTextWanted, is_text},
    Kind{"seed", kCountWanted, is_count},
    Kind{"region", "two whole numbers of at least 1", is_region},
    Kind{"sparsity", "a number from 0 to below 1", is_share_left_out}};

constexpr const char* kNumberWanted = "a finite number";
constexpr std::array kTiming{Kind{"median_ms", kNumberWanted, is_finite}, Kind{"p10_ms", kNumberWanted, is_finite},
                             Kind{"p90_ms", kNumberWanted, is_finite}, Kind{"tflops_kept", kNumberWanted, is_finite}};

/// Null is the same as no such member.
const Json* member(const Json& object, std::string_view key) {
  const auto found = object.find(std::string(key));
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

/// The first of the kinds' keys that `object` has with another kind of value. Null is the same as no value.
template <std::size_t kCount>
std::optional<FieldFault> wrong_kind(const Json& object, const std::string& prefix,
                                     const std::array<Kind, kCount>& kinds) {
  for (const Kind& kind : kinds) {
    const Json* value = member(object, kind.key);
    if (value != nullptr && !kind.fits(*value)) {
      return FieldFault{prefix + std::string(kind.key), std::string(kind.wanted), found_text(*value)};
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
  if (!samples->is_array()) return FieldFault{"timing.samples_ms", "a list of numbers", found_text(*samples)};
  for (std::size_t i = 0; i < samples->size(); ++i) {
    const Json& sample = (*samples)[i];
    if (is_finite(sample) && sample.get<double>() > 0.0) continue;
    return FieldFault{fmt::format("timing.samples_ms[{}]", i), "a number above 0", found_text(sample)};
  }
  return std::nullopt;
}

/// What is wrong with the members that are there.
std::optional<FieldFault> member_fault(const Json& record) {
  if (const Json* schema = member(record, "schema"); schema != nullptr && is_whole(*schema, kRecordSchema + 1)) {
    return FieldFault{"schema", fmt::format("{}, which this version reads", kRecordSchema),
                      fmt::format("the later {}", found_text(*schema))};
  }
  const auto inside = [&](const char* key, const auto& kinds) {
    const Json* object = member(record, key);
    return object == nullptr ? std::nullopt : wrong_kind(*object, std::string(key) + ".", kinds);
  };
  std::optional<FieldFault> fault = wrong_kind(record, "", kRequired);
  if (!fault) fault = wrong_kind(record, "", kOptional);
  if (!fault) fault = inside("input", kInput);
  if (!fault) fault = inside("config", kConfig);
  if (!fault) fault = wrong_metric(member(record, "metrics"));
  if (!fault) fault = inside("timing", kTiming);
  if (!fault) fault = wrong_sample(member(record, "timing"));
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
  for (const Kind& kind : kRequired) {
    if (fault || member(record, kind.key) != nullptr) continue;
    fault = FieldFault{std::string(kind.key), std::string(kind.wanted),
                       record.contains(std::string(kind.key)) ? "null" : "no such key"};
  }
  // What failed or was skipped, or was timed alone, may have none.
  if (!fault && record["status"] == "ok" && !member(record, "metrics") && !member(record, "timing")) {
    fault = FieldFault{"metrics", kObjectWanted, "no such key"};
  }
  return fault;
}

Json parse_record(const std::filesystem::path& path, int number, const std::string& line, const std::string& left_out) {
  JsonText text = read_json(line, left_out);
  if (text.fault) {
    if (text.fault->field.empty()) text.fault = FieldFault{"", "one JSON object", "something else"};
    refuse(path, number, *text.fault);
  }
  if (const std::optional<FieldFault> fault = record_fault(text.value)) refuse(path, number, *fault);
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
