#include "harness/record/schema.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "harness/options.hpp"
#include "harness/text.hpp"
#include "record_schema_text.hpp"

namespace draft {
namespace {

using Schema = nlohmann::json;  // sorted: names are looked up

constexpr std::size_t kShownBytes = 60;
constexpr std::string_view kMaps[] = {"draft_map", "block_mass", "mask"};  // of one head: square, and of one size

/// What fault() understands of JSON Schema. `title` and `$comment` are for readers alone.
const std::set<std::string>& keywords() {
  static const std::set<std::string> known{"$comment",
                                           "$defs",
                                           "$schema",
                                           "additionalProperties",
                                           "anyOf",
                                           "const",
                                           "description",
                                           "enum",
                                           "exclusiveMaximum",
                                           "exclusiveMinimum",
                                           "items",
                                           "maxItems",
                                           "maximum",
                                           "minItems",
                                           "minLength",
                                           "minimum",
                                           "properties",
                                           "required",
                                           "title",
                                           "type"};
  return known;
}

/// Puts the definitions in the place of their references.
void resolve(Schema& schema, const Schema& definitions) {
  if (schema.contains("$ref")) {
    constexpr std::string_view kPrefix = "#/$defs/";
    Schema whole = definitions.at(schema["$ref"].get<std::string>().substr(kPrefix.size()));
    schema.erase("$ref");
    whole.update(schema);
    schema = std::move(whole);
  }
  for (const auto& [key, value] : schema.items()) {
    if (!keywords().contains(key)) throw std::logic_error("record.schema.json: unknown keyword " + key);
    if (key == "items" || key == "additionalProperties") resolve(value, definitions);
    if (key == "properties" || key == "anyOf") {
      for (Schema& part : value) resolve(part, definitions);
    }
  }
}

const Schema& record_schema() {
  static const Schema schema = [] {
    auto whole = Schema::parse(kRecordSchemaText);
    const Schema definitions = whole["$defs"];
    whole.erase("$defs");
    resolve(whole, definitions);
    return whole;
  }();
  return schema;
}

/// Short enough for a line.
std::string found_text(const Json& value) {
  if (value.is_object() || value.is_array()) {
    return fmt::format("{} of {}", value.is_object() ? "an object" : "a list", value.size());
  }
  return one_line(value).substr(0, kShownBytes);
}

bool is_of_type(const Json& value, std::string_view type) {
  if (type == "integer") return value.is_number_integer();  // 64 bits: from -2^63 to 2^64 - 1
  if (type == "number") return is_finite(value);
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  return value.is_null();
}

/// The rules that concern the value itself, not its parts.
bool fits(const Json& value, const Schema& schema) {
  if (const auto type = schema.find("type"); type != schema.end()) {
    const auto is_one = [&](const Schema& name) { return is_of_type(value, name.get_ref<const std::string&>()); };
    if (type->is_array() ? std::none_of(type->begin(), type->end(), is_one) : !is_one(*type)) return false;
  }
  const auto limit = [&](const char* name) { return schema.contains(name) ? &schema[name] : nullptr; };
  if (const Schema* wanted = limit("const"); wanted && value != Json(*wanted)) return false;
  if (const Schema* wanted = limit("enum");
      wanted && std::none_of(wanted->begin(), wanted->end(), [&](const Schema& one) { return value == Json(one); }))
    return false;
  if (const Schema* any = limit("anyOf");
      any && std::none_of(any->begin(), any->end(), [&](const Schema& one) { return fits(value, one); }))
    return false;
  if (value.is_number()) {
    const auto number = value.get<double>();
    if (const Schema* least = limit("minimum"); least && number < least->get<double>()) return false;
    if (const Schema* most = limit("maximum"); most && number > most->get<double>()) return false;
    if (const Schema* below = limit("exclusiveMinimum"); below && number <= below->get<double>()) return false;
    if (const Schema* above = limit("exclusiveMaximum"); above && number >= above->get<double>()) return false;
  }
  if (value.is_string()) {
    const std::size_t bytes = value.get_ref<const std::string&>().size();
    if (const Schema* least = limit("minLength"); least && bytes < least->get<std::size_t>()) return false;
  }
  if (value.is_array()) {
    if (const Schema* least = limit("minItems"); least && value.size() < least->get<std::size_t>()) return false;
    if (const Schema* most = limit("maxItems"); most && value.size() > most->get<std::size_t>()) return false;
  }
  return true;
}

/// What is wrong with the value that stands at `field`. `whole`: what is required has to be there.
std::optional<FieldFault> fault_of(const Json& value, const Schema& schema, const std::string& field, bool whole) {
  if (!fits(value, schema)) {
    return FieldFault{field, schema["description"].get<std::string>(), found_text(value)};
  }
  if (value.is_array() && schema.contains("items")) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (auto fault = fault_of(value[i], schema["items"], fmt::format("{}[{}]", field, i), whole)) return fault;
    }
  }
  if (!value.is_object()) return std::nullopt;
  const std::string prefix = field.empty() ? "" : field + ".";
  if (whole && schema.contains("required")) {
    for (const auto& name : schema["required"]) {
      const auto& key = name.get_ref<const std::string&>();
      if (value.contains(key) && !value[key].is_null()) continue;
      const std::string wanted = schema["properties"][key]["description"];
      return FieldFault{prefix + key, wanted, value.contains(key) ? "null" : "no such key"};
    }
  }
  const auto properties = schema.find("properties");
  const auto others = schema.find("additionalProperties");
  for (const auto& [key, part] : value.items()) {
    const auto known = properties == schema.end() ? Schema::const_iterator() : properties->find(key);
    if (properties != schema.end() && known != properties->end()) {
      if (auto fault = fault_of(part, *known, prefix + key, whole)) return fault;
    } else if (others != schema.end()) {
      if (auto fault = fault_of(part, *others, prefix + key, whole)) return fault;
    }
  }
  return std::nullopt;
}

/// What no schema says of maps that are rows already.
std::optional<FieldFault> map_fault(const Json& record) {
  const auto arrays = record.find("arrays");
  if (arrays == record.end() || !arrays->is_object()) return std::nullopt;
  std::size_t side = 0;
  for (const std::string_view key : kMaps) {
    const auto rows = arrays->find(std::string(key));
    if (rows == arrays->end() || rows->is_null()) continue;
    const std::string field = "arrays." + std::string(key);
    side = side == 0 ? rows->size() : side;
    const std::string wanted = fmt::format("{} rows of {}", side, side);
    if (rows->size() != side) return FieldFault{field, wanted, fmt::format("{} rows", rows->size())};
    for (const Json& row : *rows) {
      const std::size_t length = row.is_string() ? row.get_ref<const std::string&>().size() : row.size();
      if (length != side) return FieldFault{field, wanted, fmt::format("a row of {}", length)};
      if (row.is_string() && row.get_ref<const std::string&>().find_first_not_of("01") != std::string::npos) {
        return FieldFault{field, "rows of 0 and 1", found_text(row)};
      }
    }
  }
  return std::nullopt;
}

/// Another version than this one's, said before anything else: its other fields may mean something else.
std::optional<FieldFault> version_fault(const Json& record) {
  const auto schema = record.find("schema");
  if (schema == record.end() || !schema->is_number_integer() || *schema == kRecordSchema) return std::nullopt;
  const std::string found = found_text(*schema);
  if (*schema == 1) return FieldFault{"schema", "2", "1: draftbench convert makes version 2 of it"};
  if (schema->get<double>() < kRecordSchema) return std::nullopt;
  return FieldFault{"schema", fmt::format("{}, which this version reads", kRecordSchema), "the later " + found};
}

/// What is wrong with a record, or with what is there of one.
std::optional<FieldFault> fault_of_record(const Json& record, bool whole) {
  if (!record.is_object()) return FieldFault{"", "one JSON object", record.type_name()};
  std::optional<FieldFault> fault = version_fault(record);
  if (!fault) fault = fault_of(record, record_schema(), "", whole);
  if (!fault) fault = map_fault(record);
  return fault;
}

[[noreturn]] void refuse(const std::filesystem::path& path, int number, const FieldFault& fault) {
  throw UsageError(fmt::format("{}: line {}: {}{}wanted {}, found {}", shown(path.string()), number, shown(fault.field),
                               fault.field.empty() ? "" : ": ", fault.wanted, shown(fault.found)));
}

}  // namespace

std::optional<FieldFault> record_fault(const Json& record) { return fault_of_record(record, true); }

Json parse_object(const std::filesystem::path& path, int number, const std::string& line) {
  constexpr std::string_view kMark = "\xef\xbb\xbf";  // of byte order: at the beginning of a file alone
  if (number > 1 && line.starts_with(kMark)) refuse(path, number, {"", "one JSON object", "a mark of byte order"});
  JsonText text = read_json(line);
  if (text.fault) {
    if (text.fault->field.empty()) text.fault = FieldFault{"", "one JSON object", "something else"};
    refuse(path, number, *text.fault);
  }
  if (!text.value.is_object()) refuse(path, number, {"", "one JSON object", text.value.type_name()});
  return std::move(text.value);
}

Json parse_record(const std::filesystem::path& path, int number, const std::string& line, const std::string& left_out) {
  Json record = parse_object(path, number, line);
  if (const std::optional<FieldFault> fault = record_fault(record)) refuse(path, number, *fault);
  if (!left_out.empty()) record.erase(left_out);
  return record;
}

bool begins_record(const std::string& line) {
  const JsonText text = read_json(line);
  if (!text.fault || !text.ended) return false;
  // The first two names, as far as they got.
  constexpr std::string_view kBegin = "{\"schema\":2,\"experiment\":\"";
  std::string compact;
  for (const char c : line) {
    if (compact.size() == kBegin.size()) break;
    if (c != ' ' && c != '\t' && c != '\r') compact += c;
  }
  if (compact.empty() || !kBegin.starts_with(compact)) return false;
  return !text.value.is_object() || !fault_of_record(text.value, false);
}

}  // namespace draft
