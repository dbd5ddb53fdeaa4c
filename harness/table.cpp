#include "harness/table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kGap = 2;
constexpr std::size_t kLeastCut = 8;
constexpr double kSmallestFixed = 1e-4;  // below: exponent form
constexpr double kLargestFixed = 1e15;   // from here on: exponent form

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

/// The first `count` characters.
std::string first_characters(const std::string& text, std::size_t count) {
  std::size_t end = 0;
  for (std::size_t seen = 0; end < text.size(); ++end) {
    if (!continues_character(text[end]) && ++seen > count) break;
  }
  return text.substr(0, end);
}

std::string fitted(const std::string& text, std::size_t width, Align align) {
  const std::size_t found = display_width(text);
  if (found > width) return first_characters(text, width - 3) + "...";
  const std::string space(width - found, ' ');
  return align == Align::left ? text + space : space + text;
}

std::string without_trailing_zeros(std::string text) {
  if (text.find('.') == std::string::npos) return text;
  text.resize(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

}  // namespace

void Table::add_row(std::vector<std::string> cells) {
  if (cells.size() != columns_.size()) {
    throw std::invalid_argument(fmt::format("table: wanted {} cells, found {}", columns_.size(), cells.size()));
  }
  for (std::string& cell : cells) cell = shown(cell);  // names come from files: a newline in one would break the row
  rows_.push_back(std::move(cells));
}

std::string Table::text(std::size_t max_width) const {
  std::vector<std::string> headers;
  headers.reserve(columns_.size());
  for (const Column& column : columns_) headers.push_back(column.header);
  std::vector<std::vector<std::string>> lines = {headers};
  lines.insert(lines.end(), rows_.begin(), rows_.end());

  std::vector<std::size_t> widths(columns_.size(), 0);
  for (const auto& line : lines) {
    for (std::size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], display_width(line[c]));
  }
  std::size_t total = columns_.empty() ? 0 : kGap * (columns_.size() - 1);
  std::size_t widest = columns_.size();
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    total += widths[c];
    const bool left = columns_[c].align == Align::left;
    if (left && (widest == columns_.size() || widths[c] > widths[widest])) widest = c;
  }
  if (max_width > 0 && total > max_width && widest < columns_.size() && widths[widest] > kLeastCut) {
    const std::size_t excess = std::min(total - max_width, widths[widest] - kLeastCut);
    widths[widest] -= excess;
  }

  std::string text;
  for (const auto& line : lines) {
    std::string row;
    for (std::size_t c = 0; c < line.size(); ++c) {
      if (c > 0) row += std::string(kGap, ' ');
      row += fitted(line[c], widths[c], columns_[c].align);
    }
    row.resize(row.find_last_not_of(' ') + 1);
    text += row + "\n";
  }
  return text;
}

void Table::print(std::FILE* stream, std::size_t max_width) const { fmt::print(stream, "{}", text(max_width)); }

std::string number(double value, int digits) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  const double magnitude = std::abs(value);
  if (magnitude == 0.0) return "0";
  if (magnitude < kSmallestFixed || magnitude >= kLargestFixed) {
    const std::string text = fmt::format("{:.{}e}", value, digits - 1);
    const std::size_t exponent = text.find('e');
    return without_trailing_zeros(text.substr(0, exponent)) + text.substr(exponent);
  }
  const int leading = static_cast<int>(std::floor(std::log10(magnitude)));
  return without_trailing_zeros(fmt::format("{:.{}f}", value, std::max(0, digits - 1 - leading)));
}

std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues_character(c); }));
}

}  // namespace draft
