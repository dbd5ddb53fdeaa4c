// What the writer writes the reader reads back, and nothing is left of what was not finished.

#include "harness/dump/dump.hpp"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <limits>

#include "harness/dump/rules.hpp"
#include "harness/dump/writer.hpp"
#include "harness/numbers/element.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Numbers that all differ and that no element type represents exactly.
Matrix numbers(const Grid& grid, Index head_dim, double first) {
  Matrix m(grid.tokens(), head_dim);
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = std::sin(first + 0.37 * static_cast<double>(i)) * 3.0;
  return m;
}

CaptureInfo capture_named(const std::string& name) {
  CaptureInfo capture;
  capture.name = name;
  capture.layer = 3;
  capture.step = 12;
  capture.timestep = 0.75;
  return capture;
}

Matrix rounded_to(Matrix m, Element element) {
  for (Index i = 0; i < m.size(); ++i) m.data()[i] = rounded(m.data()[i], element);
  return m;
}

class EveryElement : public testing::TestWithParam<Element> {};
INSTANTIATE_TEST_SUITE_P(Dump, EveryElement, testing::ValuesIn(choices_of(kElements)),
                         [](const auto& test) { return to_string(test.param); });

// Given: four query and two K/V heads, text, an output, all attributes. Claim: everything comes back,
// numbers rounded once to the element, heads in their groups. Tolerance: none.
TEST_P(EveryElement, RoundTrip) {
  const TemporaryDirectory directory;
  const Grid grid{2, 3, 5, 4};
  CaptureInfo written = capture_named("b");
  written.steps = 50;
  written.prompt = "a cat, \xc3\xa9l\xc3\xa9gant";
  written.branch = "cond";
  written.softmax_scale = 0.5;
  written.model_heads = {1, 4, 9, 16};
  {
    DumpWriter writer(directory / "x.h5", {"model", "source", grid});
    for (const CaptureInfo& capture : {written, capture_named("a")}) {
      writer.add_capture(capture, {4, 2, 6, GetParam(), capture.name == "b", 4, true});
      for (Index head = 0; head < 4; ++head) {
        const Matrix o = numbers(grid, 6, 300.0 + static_cast<double>(head));
        writer.write_head(head, numbers(grid, 6, static_cast<double>(head)),
                          numbers(grid, 6, 100.0 + static_cast<double>(head)),
                          numbers(grid, 6, 200.0 + static_cast<double>(head)), capture.name == "b" ? &o : nullptr);
      }
    }
    EXPECT_FALSE(std::filesystem::exists(directory / "x.h5"));
    writer.finish();
  }
  EXPECT_EQ(directory.files(), 1);

  const Dump dump = Dump::open(directory / "x.h5");
  const DumpInfo& info = dump.info();
  EXPECT_EQ(info.version, 1);  // what is not causal older programs read, too
  EXPECT_EQ(info.model, "model");
  EXPECT_EQ(info.source, "source");
  EXPECT_EQ(info.grid, grid);
  EXPECT_EQ(info.heads, 4);
  EXPECT_EQ(info.kv_heads, 2);
  EXPECT_EQ(info.head_dim, 6);
  EXPECT_EQ(info.element, to_string(GetParam()));
  ASSERT_EQ(info.captures.size(), 2U);
  EXPECT_EQ(info.captures[0].name, "a");
  EXPECT_EQ(info.captures[0].softmax_scale, 1.0 / std::sqrt(6.0));
  EXPECT_FALSE(info.captures[0].steps || info.captures[0].prompt || info.captures[0].branch);
  const CaptureInfo& b = info.capture("b");
  EXPECT_EQ(b.layer, 3);
  EXPECT_EQ(b.step, 12);
  EXPECT_EQ(b.timestep, 0.75);
  EXPECT_EQ(b.steps, 50);
  EXPECT_EQ(b.prompt, written.prompt);
  EXPECT_EQ(b.branch, "cond");
  EXPECT_EQ(b.softmax_scale, 0.5);
  EXPECT_EQ(b.model_heads, written.model_heads);
  EXPECT_TRUE(b.has_output);

  const Problem problem = dump.load(b, 3);  // K and V of group 1 were written with its first head, 2
  EXPECT_EQ(problem.source, "x.h5:/captures/b head 3");
  EXPECT_EQ(problem.grid, grid);
  EXPECT_EQ(problem.scale, 0.5);
  EXPECT_EQ(problem.q, rounded_to(numbers(grid, 6, 3.0), GetParam()));
  EXPECT_EQ(problem.k, rounded_to(numbers(grid, 6, 102.0), GetParam()));
  EXPECT_EQ(problem.v, rounded_to(numbers(grid, 6, 202.0), GetParam()));
  EXPECT_EQ(dump.load_output(b, 3), rounded_to(numbers(grid, 6, 303.0), GetParam()));
  EXPECT_EQ(dump.load_output(info.capture("a"), 3), std::nullopt);
  EXPECT_NO_THROW(require_valid(problem));
}

// Given: a dump of 201 MB, 64 heads. Claim: writing it and loading a head takes memory by the head (3 x 2 MB as
// float64, and buffers), not by the dataset (67 MB). Tolerance: half a dataset.
TEST(Dump, MemoryByHead) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer keeps freed memory";
#endif
  const auto peak_kilobytes = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  };
  const TemporaryDirectory directory;
  const Matrix head = Matrix::Ones(4096, 64);
  const auto before = peak_kilobytes();
  DumpWriter writer(directory / "x.h5", {"m", "s", Grid{1, 64, 64, 0}});
  writer.add_capture(capture_named("a"), {64, 64, 64, Element::float32, false, 0});
  for (Index h = 0; h < 64; ++h) writer.write_head(h, head, head, head);
  writer.finish();
  const Dump dump = Dump::open(directory / "x.h5");
  EXPECT_EQ(dump.load(dump.info().captures[0], 63).q, head);
  EXPECT_LT(peak_kilobytes() - before, 33'000);
}

// Given: bits and values of the half formats from their definitions. Claim: both directions agree.
TEST(Element, KnownHalfValues) {
  const std::pair<std::uint16_t, double> float16[] = {{0x0000, 0.0},       {0x3c00, 1.0},
                                                      {0xc000, -2.0},      {0x7bff, 65504.0},
                                                      {0x0400, 0x1p-14},   {0x03ff, 1023 * 0x1p-24},
                                                      {0x0001, 0x1p-24},   {0x3555, 0.333251953125},
                                                      {0x7c00, kInfinity}, {0xfc00, -kInfinity}};
  for (const auto& [bits, value] : float16) {
    EXPECT_EQ(to_float16(value), bits) << value;
    EXPECT_EQ(from_float16(bits), value) << bits;
  }
  const std::pair<std::uint16_t, double> bfloat16[] = {{0x0000, 0.0},        {0x3f80, 1.0},       {0xc000, -2.0},
                                                       {0x7f7f, 0x1.fep127}, {0x0080, 0x1p-126},  {0x0001, 0x1p-133},
                                                       {0x4049, 3.140625},   {0x7f80, kInfinity}, {0xff80, -kInfinity}};
  for (const auto& [bits, value] : bfloat16) {
    EXPECT_EQ(to_bfloat16(value), bits) << value;
    EXPECT_EQ(from_bfloat16(bits), value) << bits;
  }
  EXPECT_EQ(to_float16(-0.0), 0x8000);
  EXPECT_TRUE(std::signbit(from_float16(0x8000)));
  EXPECT_TRUE(std::isnan(from_float16(to_float16(std::nan("")))));
  EXPECT_TRUE(std::isnan(from_bfloat16(to_bfloat16(std::nan("")))));
}

// Given: numbers halfway between two values and just beside them. Claim: ties go to the even fraction, a
// carry reaches the exponent, and double is rounded once (through float, 1 + 2^-11 + 2^-30 would be a tie).
TEST(Element, RoundsToNearestEven) {
  EXPECT_EQ(to_float16(1.0 + 0x1p-11), 0x3c00);
  EXPECT_EQ(to_float16(1.0 + 3 * 0x1p-11), 0x3c02);
  EXPECT_EQ(to_float16(1.0 + 0x1p-11 + 0x1p-30), 0x3c01);
  EXPECT_EQ(to_float16(2.0 - 0x1p-12), 0x4000);
  EXPECT_EQ(to_float16(0x1p-25), 0x0000);
  EXPECT_EQ(to_float16(0x1p-25 + 0x1p-40), 0x0001);
  EXPECT_EQ(to_float16(3 * 0x1p-25), 0x0002);
  EXPECT_EQ(to_float16(0x1p-14 - 0x1p-26), 0x0400);
  EXPECT_EQ(to_float16(65519.99), 0x7bff);
  EXPECT_EQ(to_float16(65520.0), 0x7c00);
  EXPECT_EQ(to_float16(std::numeric_limits<double>::denorm_min()), 0x0000);
  EXPECT_EQ(to_bfloat16(1.0 + 0x1p-8), 0x3f80);
  EXPECT_EQ(to_bfloat16(1.0 + 3 * 0x1p-8), 0x3f82);
  EXPECT_EQ(to_bfloat16(1.0 + 0x1p-8 + 0x1p-40), 0x3f81);
  EXPECT_EQ(to_bfloat16(0x1.ffp127), 0x7f80);
  EXPECT_EQ(to_bfloat16(1e300), 0x7f80);
}

// Given: every 16-bit pattern that is no NaN. Claim: decoding and encoding gives it back.
TEST(Element, EveryPatternSurvives) {
  for (unsigned bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    EXPECT_TRUE(std::isnan(from_float16(half)) || to_float16(from_float16(half)) == half) << bits;
    EXPECT_TRUE(std::isnan(from_bfloat16(half)) || to_bfloat16(from_bfloat16(half)) == half) << bits;
  }
}

class Writer : public testing::Test {
 protected:
  static constexpr Grid kGrid{1, 2, 2, 0};
  [[nodiscard]] DumpWriter writer() const { return {directory_ / "x.h5", {"m", "s", kGrid}}; }
  template <typename Action>
  static std::string refusal(Action action) {
    try {
      action();
    } catch (const UsageError& error) {
      return error.what();
    }
    return "not refused";
  }
  static void contains(const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
  TemporaryDirectory directory_;
  Matrix fine_ = Matrix::Ones(4, 3);
};

// Given: a writer that is destroyed before finish(), also over an older dump. Claim: nothing is left of the new dump,
// and the older one is untouched.
TEST_F(Writer, LeavesNothingUnfinished) {
  const auto write = [this](double number) {
    DumpWriter w = writer();
    w.add_capture(capture_named("a"), {1, 1, 3, Element::float32});
    w.write_head(0, number * fine_, fine_, fine_);
    w.finish();
  };
  write(1.0);
  const std::string older = read_text(directory_ / "x.h5");
  {
    DumpWriter unfinished = writer();
    unfinished.add_capture(capture_named("a"), {1, 1, 3, Element::float32});
    unfinished.write_head(0, fine_, fine_, fine_);
    EXPECT_EQ(directory_.files(), 2);
  }
  EXPECT_EQ(directory_.files(), 1);
  EXPECT_EQ(read_text(directory_ / "x.h5"), older);
  write(2.0);
  EXPECT_NE(read_text(directory_ / "x.h5"), older);  // a whole one replaces it
}

// Given: another kind of file under the dump's name, or a link. Claim: only a dump or an empty file is replaced; a link
// stays a link, and the file that it leads to is written.
TEST_F(Writer, ReplacesDumpsAloneAndFollowsLinks) {
  const auto write = [this] {
    DumpWriter w = writer();
    w.add_capture(capture_named("a"), {1, 1, 3, Element::float32});
    w.write_head(0, fine_, fine_, fine_);
    w.finish();
  };
  write_bytes(directory_ / "notes", "notes");
  std::filesystem::create_symlink("notes", directory_ / "x.h5");
  contains(refusal(write), "x.h5: file: wanted a new file or a dump to replace, found a file that is none");
  EXPECT_EQ(read_text(directory_ / "notes"), "notes");
  std::filesystem::remove(directory_ / "x.h5");
  std::filesystem::create_symlink("other", directory_ / "x.h5");
  std::filesystem::create_symlink(directory_ / "real.h5", directory_ / "other");
  for (int time = 0; time < 2; ++time) {  // a dangling link, then one to a dump
    write();
    EXPECT_TRUE(std::filesystem::is_symlink(directory_ / "x.h5"));
    EXPECT_EQ(Dump::open(directory_ / "real.h5").info().captures.size(), 1U);
  }
  std::filesystem::remove(directory_ / "real.h5");
  std::filesystem::create_symlink("x.h5", directory_ / "real.h5");  // in a circle
  contains(refusal(write), "links that lead nowhere");
  std::filesystem::remove(directory_ / "x.h5");
  std::filesystem::create_directory(directory_ / "x.h5");
  contains(refusal(write), "found a directory");
}

// Given: heads so wide that 4096 tokens would make a chunk that no reader takes. Claim: smaller chunks, read back.
TEST_F(Writer, ChunksAreWhatAReaderTakes) {
  const Grid grid{1, 300, 1, 0};
  const Matrix rows = Matrix::Ones(grid.tokens(), kLargestHeadDim);
  {
    DumpWriter w(directory_ / "x.h5", {"m", "s", grid});
    w.add_capture(capture_named("a"), {1, 1, kLargestHeadDim, Element::float64, false, 1, false});
    w.write_head(0, rows, rows, rows);
    w.finish();
  }
  const Dump dump = Dump::open(directory_ / "x.h5");
  EXPECT_EQ(dump.load(dump.info().captures[0], 0).q.row(299), rows.row(299));
}

// Given: numbers that the element cannot hold. Claim: refused with the place, and no file is left.
TEST_F(Writer, RefusesWhatTheElementCannotHold) {
  Matrix large = fine_;
  large(2, 1) = 65520.0;
  Matrix nan = fine_;
  nan(0, 2) = std::nan("");
  Matrix huge = fine_;
  huge(3, 0) = -1e39;
  const auto write = [&](const Matrix& q, Element element) {
    return refusal([&] {
      DumpWriter w = writer();
      w.add_capture(capture_named("a"), {1, 1, 3, element});
      w.write_head(0, q, fine_, fine_);
    });
  };
  EXPECT_EQ(write(large, Element::float16), (directory_ / "x.h5").string() +
                                                ": /captures/a/q head 0: wanted finite numbers within float16, found "
                                                "65520 at [2, 1]");
  EXPECT_EQ(write(large, Element::bfloat16), "not refused");
  EXPECT_NE(write(nan, Element::float64).find("nan at [0, 2]"), std::string::npos);
  EXPECT_NE(write(huge, Element::float32).find("-1e+39 at [3, 0]"), std::string::npos);
  EXPECT_EQ(directory_.files(), 0);
}

// Given: wrong use. Claim: each is refused with what was wanted and found, and no file is left.
TEST_F(Writer, RefusesWrongUse) {
  const CaptureLayout layout{2, 1, 3, Element::float32};
  contains(refusal([&] { writer().finish(); }), "/captures: wanted at least one capture, found none");
  contains(refusal([&] {
             DumpWriter w = writer();
             w.add_capture(capture_named("a"), layout);
             w.write_head(0, fine_, fine_, fine_);
             w.finish();
           }),
           "/captures/a/q: wanted 2 heads written, found 1");
  contains(refusal([&] { writer().add_capture(capture_named("a"), {3, 2, 3, Element::float32}); }), "found 3, 2, 3");
  contains(refusal([&] {
             DumpWriter w = writer();
             w.add_capture(capture_named("a"), layout);
             w.write_head(0, Matrix::Ones(5, 3), fine_, fine_);
           }),
           "wanted [4, 3], found [5, 3]");
  contains(refusal([&] {
             DumpWriter w = writer();
             w.add_capture(capture_named("a"), layout);
             for (const Index head : {0, 1}) w.write_head(head, fine_, fine_, fine_);
             w.add_capture(capture_named("a"), layout);
           }),
           "/captures/a: wanted a new capture, found");
  contains(refusal([&] {
             DumpWriter w = writer();
             w.add_capture(capture_named("a"), layout);
             for (const Index head : {0, 1}) w.write_head(head, fine_, fine_, fine_);
             w.add_capture(capture_named("b"), {1, 1, 3, Element::float32});
           }),
           "found 1, 1, 3");
  contains(refusal([&] { DumpWriter(directory_ / "none/x.h5", {"m", "s", kGrid}); }), "No such file or directory");
  contains(refusal([&] { DumpWriter(directory_ / "x.h5", {"m", "s", Grid{0, 1, 1, 0}}); }), "frames");
  EXPECT_EQ(directory_.files(), 0);
}

}  // namespace
}  // namespace draft
