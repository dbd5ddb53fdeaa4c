#include "harness/record/json_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace draft {
namespace {

constexpr std::size_t kShownBytes = 40;

/// Builds the value on a stack of its own: nothing here recurses, however deep the text is.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const std::string& text) : text_(text) {}

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return refuse("a JSON value", "binary data"); }
  bool start_object(std::size_t /*size*/) override { return open(Json::object()); }
  bool start_array(std::size_t /*size*/) override { return open(Json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    Level& level = levels_.back();
    level.name = std::move(name);
    if (++level.members <= kMostMembers) return true;
    return refuse(fmt::format("at most {} members", kMostMembers), "more");
  }

  bool end_object() override {
    std::vector<const std::string*> names;
    for (const auto& [name, value] : levels_.back().value.get_ref<const Json::object_t&>()) names.push_back(&name);
    std::sort(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a < *b; });
    const auto same = [](const auto* a, const auto* b) { return *a == *b; };
    const auto twice = std::adjacent_find(names.begin(), names.end(), same);
    if (twice == names.end()) return close();
    levels_.back().name = **twice;
    return refuse("one such member", "two");
  }

  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override {
    constexpr int kOutOfRange = 406;  // nlohmann's number of "number overflow"
    result_.ended = position > text_.size();
    if (result_.ended) return refuse("a whole JSON value", "its beginning");
    const std::size_t last = position - std::min<std::size_t>(position, 1);
    const std::size_t before = last > 0 ? text_.find_last_of(":,[{ \t\r", last - 1) : std::string::npos;
    const std::size_t begin = before == std::string::npos ? 0 : before + 1;
    const std::size_t end = std::min(text_.find_first_of(",]} \t\r", last), text_.size());
    const std::string found = text_.substr(begin, std::min(std::max(end, position) - begin, kShownBytes));
    return refuse(error.id == kOutOfRange ? "a number that float64 holds" : "JSON",
                  fmt::format("'{}' at byte {}", found, begin + 1));
  }

  /// What was built; after a fault the outermost object as far as it was complete.
  JsonText result() && {
    if (result_.fault && !levels_.empty()) result_.value = std::move(levels_.front().value);
    return std::move(result_);
  }

 private:
  struct Level {
    Json value;
    std::string name;         // of the member that is being read
    std::size_t members = 0;  // that an object has
  };

  bool add(Json&& value) {
    if (++values_ > kMostValues) return refuse(fmt::format("at most {} values", kMostValues), "more");
    if (levels_.empty()) {
      result_.value = std::move(value);
      return true;
    }
    Level& level = levels_.back();
    if (level.value.is_array()) {
      level.value.push_back(std::move(value));
    } else {  // not emplace(): that would compare the name with every other one
      level.value.get_ref<Json::object_t&>().emplace_back(level.name, std::move(value));
    }
    level.name.clear();
    return true;
  }

  bool open(Json&& value) {
    if (levels_.size() == kDeepestJson) return refuse(fmt::format("at most {} levels", kDeepestJson), "more");
    levels_.push_back({std::move(value), "", 0});
    return true;
  }

  bool close() {
    Json value = std::move(levels_.back().value);
    levels_.pop_back();
    return add(std::move(value));
  }

  bool refuse(const std::string& wanted, const std::string& found) {
    std::string field;
    for (const Level& level : levels_) {
      if (level.value.is_array()) {
        field += fmt::format("[{}]", level.value.size());
      } else {
        if (!field.empty() && !level.name.empty()) field += '.';
        field += level.name;
      }
    }
    result_.fault = FieldFault{field, wanted, found};
    return false;
  }

  const std::string& text_;
  std::vector<Level> levels_;
  std::size_t values_ = 0;
  JsonText result_;
};

}  // namespace

JsonText read_json(const std::string& text) {
  Builder builder(text);
  Json::sax_parse(text, &builder);
  return std::move(builder).result();
}

}  // namespace draft
