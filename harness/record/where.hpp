#pragma once
// Which records are wanted: conditions on their fields, as --where has them.

#include <string>
#include <vector>

#include "harness/record/json_line.hpp"

namespace draft {

/// A field's value as a command line has it: a text as it stands, numbers in their shortest form, a list such as a
/// region [8, 16] as "8x16", no value as "null", an object as JSON.
std::string field_text(const Json& value);

/// The field of this name; null if there is none. A name with dots is a path ("input.grid.frames"). Another is looked
/// for in the record itself, then in its input, config, metrics, timing, machine and build.
const Json& find_field(const Json& record, const std::string& name);

/// One condition on a field.
struct Condition {
  enum class Is { equal, unequal, below, at_most, above, at_least };
  std::string field;
  Is is = Is::equal;
  std::vector<std::string> values;  // of equal and unequal one or more, of the others one, which is a number

  /// Numbers are compared as numbers, so that 0.90 equals 0.9, everything else by its field_text(). What is no number
  /// is neither below nor above one. No value (a field that is not there) equals "null" alone.
  [[nodiscard]] bool holds(const Json& record) const;
};

/// Conditions between commas, all of which are to hold: "policy=draft|oracle,sparsity>=0.8,head!=0". `|` stands between
/// values of which one is enough (with `!=`: none may be). Throws UsageError, with the condition, for anything else.
std::vector<Condition> parse_conditions(const std::string& text);

}  // namespace draft
