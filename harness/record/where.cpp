#include "harness/record/where.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "harness/options.hpp"
#include "harness/record/record.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

using Is = Condition::Is;

// The longer ones first: `<=` begins with `<`.
constexpr std::pair<const char*, Is> kOperators[] = {{"!=", Is::unequal}, {"<=", Is::at_most}, {">=", Is::at_least},
                                                     {"=", Is::equal},    {"<", Is::below},    {">", Is::above}};

bool equals(const Json& value, const std::string& wanted) {
  if (!value.is_number()) return field_text(value) == wanted;
  const auto number = parsed<double>(wanted);
  return number && value.get<double>() == *number;
}

Condition parse_condition(const std::string& text) {
  const std::size_t at = text.find_first_of("!<>=");
  for (const auto& [sign, is] : kOperators) {
    if (at == std::string::npos || at == 0 || text.compare(at, std::string(sign).size(), sign) != 0) continue;
    Condition condition{text.substr(0, at), is, split(text.substr(at + std::string(sign).size()), '|')};
    const bool ordered = is != Is::equal && is != Is::unequal;
    if (ordered && (condition.values.size() != 1 || !parsed<double>(condition.values[0]))) {
      throw UsageError(fmt::format("--where: '{}': wanted a number behind {}, found '{}'", shown(text), sign,
                                   shown(text.substr(at + std::string(sign).size()))));
    }
    return condition;
  }
  throw UsageError(
      fmt::format("--where: wanted FIELD=VALUE (or !=, <, <=, >, >=) between commas, found '{}'", shown(text)));
}

}  // namespace

std::string field_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return record_line(value);
  std::string joined;
  for (const Json& one : value) {
    if (!joined.empty()) joined += 'x';
    joined += field_text(one);
  }
  return joined;
}

const Json& find_field(const Json& record, const std::string& name) {
  if (name.find('.') != std::string::npos) {
    const Json* value = &record;
    for (const std::string& step : split(name, '.')) value = &part(*value, step.c_str());
    return *value;
  }
  if (const Json& value = part(record, name.c_str()); !value.is_null()) return value;
  const Json* value = &part(record, "input");
  for (const char* place : {"input", "config", "metrics", "timing", "machine", "build"}) {
    value = &part(part(record, place), name.c_str());
    if (!value->is_null()) break;
  }
  return *value;
}

bool Condition::holds(const Json& record) const {
  const Json& value = find_field(record, field);
  const auto is_one = [&](const std::string& wanted) { return equals(value, wanted); };
  if (is == Is::equal) return std::ranges::any_of(values, is_one);
  if (is == Is::unequal) return std::ranges::none_of(values, is_one);
  if (!value.is_number()) return false;
  const double found = value.get<double>(), limit = parsed<double>(values.front()).value();
  switch (is) {
    case Is::below: return found < limit;
    case Is::at_most: return found <= limit;
    case Is::above: return found > limit;
    default: return found >= limit;
  }
}

std::vector<Condition> parse_conditions(const std::string& text) {
  std::vector<Condition> conditions;
  for (const std::string& one : split(text, ',')) conditions.push_back(parse_condition(one));
  return conditions;
}

}  // namespace draft
