#pragma once
// Small aligned text tables for the terminal.

#include <cstdio>
#include <string>
#include <vector>

namespace draft {

enum class Align { left, right };

struct Column {
  std::string header;
  Align align = Align::right;  // numbers right, text left
};

/// Columns two spaces apart under their headers, one line a row; a line never wraps or ends in spaces.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// Adds one cell for each column; control characters are escaped. Throws std::invalid_argument on another number.
  void add_row(std::vector<std::string> cells);
  [[nodiscard]] bool empty() const { return rows_.empty(); }

  /// The table's lines. If they were wider than `max_width` (0: any width), the widest left-aligned
  /// column is cut, down to eight characters, and cut cells end in "...".
  [[nodiscard]] std::string text(std::size_t max_width = 0) const;
  void print(std::FILE* stream = stdout, std::size_t max_width = 0) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// `value` to `digits` significant digits without trailing zeros: "0.0123", "98010", "1.5e-07", "nan". The whole part
/// is never rounded: 98010 keeps five digits whatever `digits` is.
std::string number(double value, int digits = 4);

/// The number of characters of UTF-8 text; each is taken to fill one column of the terminal.
std::size_t display_width(const std::string& text);

}  // namespace draft
