#include "experiments/input/shape.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <stdexcept>

namespace draft {
namespace {

struct NamedShape {
  const char* name;
  Index heads;
  Grid grid;
};
constexpr Index kHeadDim = 128;  // of all of them
constexpr std::array<NamedShape, 3> kPaperShapes{
    {{"wan_512p", 40, {21, 32, 48, 0}}, {"wan_768p", 40, {21, 48, 80, 0}}, {"hunyuan_768p", 24, {33, 48, 80, 256}}}};
constexpr Index kMost = 1'000'000;  // of each extent: products of four fit 64 bits

/// The number at the text's start, which is cut off with the separator behind it; none if that is not there.
std::optional<Index> take_number(std::string_view& text, char separator) {
  Index value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto used = static_cast<std::size_t>(end - text.data());
  if (error != std::errc() || value < 0 || value > kMost) return std::nullopt;
  if (separator == '\0' ? used != text.size() : used == text.size() || text[used] != separator) return std::nullopt;
  text.remove_prefix(separator == '\0' ? used : used + 1);
  return value;
}

std::optional<CallShape> parse_extents(std::string_view text, Index head_dim) {
  const bool with_text = text.find('+') != std::string_view::npos;
  std::array<Index, 5> extents{};  // heads, frames, height, width, text
  for (std::size_t i = 0; i < (with_text ? 5U : 4U); ++i) {
    const char separator = i < 3 ? 'x' : i == 3 && with_text ? '+' : '\0';
    const std::optional<Index> value = take_number(text, separator);
    if (!value || (i < 4 && *value < 1)) return std::nullopt;
    extents[i] = *value;
  }
  return CallShape{extents[0], {extents[1], extents[2], extents[3], extents[4]}, head_dim};
}

}  // namespace

CallShape parse_call_shape(const std::string& text, Index head_dim) {
  for (const NamedShape& known : kPaperShapes) {
    if (text == known.name) return {known.heads, known.grid, head_dim};
  }
  if (const auto shape = parse_extents(text, head_dim)) return *shape;
  throw std::invalid_argument(
      fmt::format("wanted wan_512p, wan_768p, hunyuan_768p or HEADSxFRAMESxHEIGHTxWIDTH[+TEXT], found '{}'", text));
}

std::string to_string(const CallShape& shape) {
  const Grid& grid = shape.grid;
  for (const NamedShape& known : kPaperShapes) {
    const bool same_grid = Grid{grid.frames, grid.height, grid.width, known.grid.text} == known.grid;
    if (shape.heads == known.heads && same_grid && shape.head_dim == kHeadDim) return known.name;
  }
  return fmt::format("{}x{}x{}x{}+{}", shape.heads, grid.frames, grid.height, grid.width, grid.text);
}

std::optional<TransformerShape> paper_model(const std::string& shape) {
  if (shape == "wan_512p") return wan_14b("512p", 21, 32, 48);
  if (shape == "wan_768p") return wan_14b("768p", 21, 48, 80);
  if (shape == "hunyuan_768p") return hunyuan_video("768p", 33, 48, 80);
  return std::nullopt;
}

}  // namespace draft
