#pragma once
// JSON from a file that anybody may have written: read with limits, and every refusal names the field.

#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace draft {

using Json = nlohmann::ordered_json;

inline constexpr std::size_t kDeepestJson = 32;      // levels: beyond, copies and destructors could end the stack
inline constexpr std::size_t kMostMembers = 10'000;  // of one object: looking a name up takes one after the other
inline constexpr std::size_t kMostValues = std::size_t{1} << 25;  // of one text

/// A number that is neither infinite nor NaN.
inline bool is_finite(const Json& value) { return value.is_number() && std::isfinite(value.get<double>()); }

/// The value in one line, also where a text in it is no UTF-8.
inline std::string one_line(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// What is wrong, and where: "metrics.attention_recall", "config.region[1]", or "" for the whole text.
struct FieldFault {
  std::string field, wanted, found;
};

struct JsonText {
  Json value;                       // with a fault: the members that the outermost object had until then
  std::optional<FieldFault> fault;  // none: all of the text is one JSON value
  bool ended = false;               // the fault is that the text ends too early: it is the beginning of a value
};

/// Reads a text that is one JSON value. Faults besides bad syntax: a limit from above is exceeded, a name that an
/// object has twice, a number that float64 cannot hold, bytes that are no UTF-8.
JsonText read_json(const std::string& text);

}  // namespace draft
