#include "harness/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace draft {
namespace {

constexpr char32_t kNoCharacter = 0xffffffff;

struct Character {
  char32_t code;       // kNoCharacter: the byte begins no character
  std::size_t length;  // in bytes
};

/// The character that `text`, which is not empty, begins with.
Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return {byte(0), 1};
  const std::size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < length) return {kNoCharacter, 1};
  char32_t code = byte(0) & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {kNoCharacter, 1};
    code = (code << 6) | (byte(i) & 0x3fU);
  }
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return {kNoCharacter, 1};
  return {code, length};
}

struct Range {
  char32_t first, last;
};

// Unicode's categories Cc and Cf, its separators Zl and Zp, the fillers that print as nothing, variation selectors that
// no emoji needs, and noncharacters.
constexpr Range kHidden[] = {{0x00, 0x1f},       {0x7f, 0x9f},       {0xad, 0xad},       {0x34f, 0x34f},
                             {0x600, 0x605},     {0x61c, 0x61c},     {0x6dd, 0x6dd},     {0x70f, 0x70f},
                             {0x890, 0x891},     {0x8e2, 0x8e2},     {0x115f, 0x1160},   {0x17b4, 0x17b5},
                             {0x180b, 0x180f},   {0x200b, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x206f},
                             {0x3164, 0x3164},   {0xfdd0, 0xfdef},   {0xfeff, 0xfeff},   {0xffa0, 0xffa0},
                             {0xfff0, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd}, {0x110cd, 0x110cd},
                             {0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}};

bool is_hidden(char32_t code) {
  const bool last_of_plane = (code & 0xfffe) == 0xfffe;
  return last_of_plane || std::any_of(std::begin(kHidden), std::end(kHidden),
                                      [=](Range range) { return range.first <= code && code <= range.last; });
}

std::string escaped(char32_t code) {
  switch (code) {
    case '\n': return "\\n";
    case '\r': return "\\r";
    case '\t': return "\\t";
    default: break;
  }
  const auto number = static_cast<unsigned>(code);
  if (number < 0x80) return fmt::format("\\x{:02x}", number);
  return number > 0xffff ? fmt::format("\\U{:08x}", number) : fmt::format("\\u{:04x}", number);
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Character next = first_character(text);
    if (next.code == kNoCharacter) return false;
    text.remove_prefix(next.length);
  }
  return true;
}

std::string shown(std::string_view text, std::size_t most) {
  std::string line;
  while (!text.empty()) {
    const Character next = first_character(text);
    std::string piece(text.substr(0, next.length));
    if (next.code == kNoCharacter) {
      piece = fmt::format("\\x{:02x}", static_cast<unsigned>(static_cast<unsigned char>(text[0])));
    } else if (is_hidden(next.code)) {
      piece = escaped(next.code);
    }
    if (line.size() + piece.size() > most) return line + "...";
    line += piece;
    text.remove_prefix(next.length);
  }
  return line;
}

}  // namespace draft
