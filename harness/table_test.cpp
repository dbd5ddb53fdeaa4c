#include "harness/table.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

namespace draft {
namespace {

// Given: text and numbers of different lengths. Claim: text starts and numbers end in one column, no spaces at line
// ends.
TEST(Table, AlignsColumns) {
  Table table({{"rule", Align::left}, {"sparsity"}, {"note", Align::left}});
  EXPECT_TRUE(table.empty());
  table.add_row({"logits", "0.9", "a"});
  table.add_row({"row", "0.75", ""});
  EXPECT_EQ(table.text(),
            "rule    sparsity  note\n"
            "logits       0.9  a\n"
            "row         0.75\n");
}

// Given: a row with two bytes for one character. Claim: it counts as one column.
TEST(Table, CountsCharactersOfUtf8) {
  EXPECT_EQ(display_width("\xc3\xa9t\xc3\xa9"), 3U);
  Table table({{"a", Align::left}, {"b"}});
  table.add_row({"\xc3\xa9", "1"});
  table.add_row({"xy", "2"});
  EXPECT_EQ(table.text(), "a   b\n\xc3\xa9   1\nxy  2\n");
}

// Given: a cell with what a terminal obeys. Claim: it is escaped, on one line, and its width is what is seen.
TEST(Table, EscapesWhatATerminalObeys) {
  Table table({{"name", Align::left}, {"b"}});
  table.add_row({"\x1b[2J\n", "1"});
  EXPECT_EQ(table.text(), "name       b\n\\x1b[2J\\n  1\n");
}

// Given: a table wider than allowed. Claim: the widest text is cut, numbers never are, no line is longer.
TEST(Table, CutsTheWidestText) {
  Table table({{"name", Align::left}, {"value"}, {"prompt", Align::left}});
  table.add_row({"first", "123456", "a long prompt about a cat \xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"});
  table.add_row({"second", "1", "short"});
  EXPECT_EQ(table.text(30),
            "name     value  prompt\n"
            "first   123456  a long prom...\n"
            "second       1  short\n");
  EXPECT_EQ(table.text(5),  // too narrow for anything: the text keeps eight characters
            "name     value  prompt\n"
            "first   123456  a lon...\n"
            "second       1  short\n");
}

TEST(Table, RefusesRowsOfAnotherLength) {
  Table table({{"a"}, {"b"}});
  EXPECT_THROW(table.add_row({"1"}), std::invalid_argument);
}

// Given: numbers of all sizes. Claim: so many significant digits, no trailing zeros, whole parts whole.
TEST(Table, Numbers) {
  EXPECT_EQ(number(0.0), "0");
  EXPECT_EQ(number(-0.0), "0");
  EXPECT_EQ(number(0.9), "0.9");
  EXPECT_EQ(number(0.1 + 0.2), "0.3");
  EXPECT_EQ(number(0.0123456), "0.01235");
  EXPECT_EQ(number(-1.5), "-1.5");
  EXPECT_EQ(number(98010.4), "98010");
  EXPECT_EQ(number(100.0), "100");
  EXPECT_EQ(number(9.99996), "10");
  EXPECT_EQ(number(1.0 / 3.0, 2), "0.33");
  EXPECT_EQ(number(1.5e-7), "1.5e-07");
  EXPECT_EQ(number(2e-5), "2e-05");
  EXPECT_EQ(number(1.23456e20), "1.235e+20");
  EXPECT_EQ(number(std::nan("")), "nan");
  EXPECT_EQ(number(-std::numeric_limits<double>::infinity()), "-inf");
}

}  // namespace
}  // namespace draft
