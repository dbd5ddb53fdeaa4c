#pragma once
// What ranks say to each other: MessagePack arrays, which carry every record exactly, numbers that are not finite and
// text that is no UTF-8 too, as JSON text would not.

#include <string>

#include "harness/record/json_line.hpp"

namespace draft::protocol {

/// The first element of a message. From another rank to the first:
enum Said : int {
  meets,     // [round, text]: an exchange; answered with `answers`
  takes,     // [phase]: wants a unit of the phase-th work; answered with `gives`
  delivers,  // [unit, found, whether the unit is done]
  advances,  // [steps]
  leaves,    // [error]: is done, or has failed; answered with `ends`
  // and back:
  answers,  // [text]
  gives,    // [unit or null]
  stops,    // []: in place of `answers`; the run has ended
  ends      // [status]
};

template <typename... Parts>
std::string message(Said said, const Parts&... parts) {
  std::string bytes;
  Json::to_msgpack(Json::array({static_cast<int>(said), parts...}), bytes);
  return bytes;
}

inline Json parse(const std::string& bytes) { return Json::from_msgpack(bytes); }

}  // namespace draft::protocol
