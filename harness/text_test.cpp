// Given: text with everything that a terminal obeys. Claim: one line of visible characters, and ordinary text of any
// script is left as it is.

#include "harness/text.hpp"

#include <gtest/gtest.h>

#include <string>

namespace draft {
namespace {

using namespace std::string_literals;

TEST(Text, ControlCharactersAreEscaped) {
  EXPECT_EQ(shown("a\nb\tc\rd"), "a\\nb\\tc\\rd");
  EXPECT_EQ(shown("\x1b[31mred\x1b[0m\a\b"), "\\x1b[31mred\\x1b[0m\\x07\\x08");
  EXPECT_EQ(shown("nul\0del\x7f"s), "nul\\x00del\\x7f");
  EXPECT_EQ(shown("\xc2\x9b"
                  "31m"),
            "\\u009b31m");  // the one-character form of ESC [
  for (int c = 0; c < 0x20; ++c) {
    const std::string line = shown(std::string(1, static_cast<char>(c)));
    EXPECT_EQ(line.front(), '\\') << c;
    EXPECT_GE(line.size(), 2U) << c;
  }
}

TEST(Text, WhatReordersOrHidesIsEscaped) {
  EXPECT_EQ(shown("\u202etxt.exe\u2066\u2069"), "\\u202etxt.exe\\u2066\\u2069");
  EXPECT_EQ(shown("a\u200bb\u200dc\ufeff\u00ad\u2060"), "a\\u200bb\\u200dc\\ufeff\\u00ad\\u2060");
  EXPECT_EQ(shown("line\u2028paragraph\u2029"), "line\\u2028paragraph\\u2029");
  EXPECT_EQ(shown("tag\U000e0041"), "tag\\U000e0041");
}

TEST(Text, OrdinaryTextStays) {
  for (const std::string text :
       {"", "plain text, \\ and \"quotes\"", "na\u00efve \u6a21\u578b \u0441\u043b\u043e\u0439",
        "\u4e00\u53ea\u732b \U0001f408", "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627"}) {
    EXPECT_EQ(shown(text), text);
    EXPECT_TRUE(is_utf8(text));
  }
}

TEST(Text, BytesThatAreNoUtf8) {
  // latin-1; a lone continuation; a cut character; an overlong form; a surrogate; beyond U+10FFFF; bytes never used
  for (const std::string text : {"caf\xe9", "\x80", "\xe4\xb8", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                                 "\xf4\x90\x80\x80", "\xff\xfe", "\xf0\x9f\x90"}) {
    EXPECT_FALSE(is_utf8(text)) << shown(text);
    EXPECT_NE(shown(text).find("\\x"), std::string::npos);
    EXPECT_TRUE(is_utf8(shown(text)));
  }
  EXPECT_EQ(shown("caf\xe9!"), "caf\\xe9!");
  EXPECT_EQ(shown("\xe4\xb8\xe4\xb8\x80"), "\\xe4\\xb8\u4e00");  // what follows a cut character is not lost
}

TEST(Text, IsCutBetweenCharacters) {
  EXPECT_EQ(shown("abcdef", 6), "abcdef");
  EXPECT_EQ(shown("abcdef", 5), "abcde...");
  EXPECT_EQ(shown("\u6a21\u578b", 5), "\u6a21...");
  EXPECT_EQ(shown("a\x1b", 4), "a...");  // an escape is never cut in two
}

// Given: every code point and every pair of bytes. Claim: the result is UTF-8, without control characters, and stays
// as it is when shown again.
TEST(Text, IsSafeWhateverTheBytes) {
  const auto check = [](const std::string& text) {
    const std::string line = shown(text);
    if (!is_utf8(line) || shown(line) != line) return false;
    for (const char c : line) {
      if (static_cast<unsigned char>(c) < 0x20 || c == '\x7f') return false;
    }
    return true;
  };
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      ASSERT_TRUE(check({static_cast<char>(first), static_cast<char>(second)})) << first << " " << second;
    }
  }
  for (unsigned code = 0x800; code <= 0x10ffff; ++code) {
    std::string text;
    if (code < 0x10000) {
      text = {static_cast<char>(0xe0 | (code >> 12)), static_cast<char>(0x80 | ((code >> 6) & 63)),
              static_cast<char>(0x80 | (code & 63))};
    } else {
      text = {static_cast<char>(0xf0 | (code >> 18)), static_cast<char>(0x80 | ((code >> 12) & 63)),
              static_cast<char>(0x80 | ((code >> 6) & 63)), static_cast<char>(0x80 | (code & 63))};
    }
    ASSERT_TRUE(check(text)) << code;
    ASSERT_EQ(is_utf8(text), code < 0xd800 || code > 0xdfff) << code;
  }
}

}  // namespace
}  // namespace draft
