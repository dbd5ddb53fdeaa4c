#include "reference/choices.hpp"

#include <fmt/format.h>

#include <charconv>

namespace draft {

std::string to_string(RegionSize size) { return fmt::format("{}x{}", size.height, size.width); }

RegionSize parse_region_size(const std::string& text) {
  RegionSize size{0, 0};
  const char* end = text.data() + text.size();
  const auto height = std::from_chars(text.data(), end, size.height);
  const bool cross = height.ec == std::errc() && height.ptr != end && *height.ptr == 'x';
  const auto width = cross ? std::from_chars(height.ptr + 1, end, size.width) : height;
  if (!cross || width.ec != std::errc() || width.ptr != end || size.height < 1 || size.width < 1) {
    throw std::invalid_argument(fmt::format("region: wanted HEIGHTxWIDTH in tokens, such as 8x16, found '{}'", text));
  }
  return size;
}

}  // namespace draft
