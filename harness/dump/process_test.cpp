// Given: a reader that does what libhdf5 does on damaged files: it crashes, loops, takes all memory, writes to the
// standard streams, leaves. Claim: the program sees one refusal that names the object, soon, and no process is left.

#include "harness/dump/process.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "harness/dump/dump.hpp"
#include "harness/dump/rules.hpp"
#include "harness/temporary_directory.hpp"

namespace draft {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSoon = std::chrono::seconds(20);  // two seconds of a processor, which others may use too

void loop() {
  std::atomic<unsigned> turns = 0;
  for (;;) ++turns;
}

/// The program's error message when the reader does this.
std::string refusal(const std::function<void()>& harm, std::uintmax_t file_bytes = 1000) {
  const auto start = Clock::now();
  std::string message = "not refused";
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  try {
    DumpProcess process("file.h5", file_bytes, [&] {
      return [&](const DumpRequest&, AnswerSpace& space) {
        contained::now_reading("/captures/a/q");
        harm();
        space.place(0);
      };
    });
    static_cast<void>(process.ask({}));
  } catch (const DumpError& error) {
    message = error.what();
  }
  EXPECT_EQ(testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr(), "");
  EXPECT_LT(Clock::now() - start, kSoon);
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a process is left";
  EXPECT_EQ(errno, ECHILD);
  return message;
}

constexpr const char* kStart =
    "file.h5: /captures/a/q: wanted what HDF5 can read, found damage or more than it stands: ";

// Negative control: a reader that works is not refused.
TEST(DumpProcess, NoHarm) {
  EXPECT_EQ(refusal([] {}), "not refused");
}

TEST(DumpProcess, SignalsAndExits) {
  for (const int number : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGKILL}) {
    const std::string message = refusal([=] {
      std::signal(number, SIG_DFL);  // a sanitizer's handler would end it with a status
      std::raise(number);
    });
    EXPECT_TRUE(message.starts_with(kStart)) << message;
    if (number == SIGSEGV) {
      EXPECT_NE(message.find("it ended with signal 11"), std::string::npos) << message;
    }
  }
  EXPECT_EQ(refusal([] { _exit(7); }), std::string(kStart) + "it ended with status 7");
}

// Also for a file of a terabyte, which costs nothing if it is sparse.
TEST(DumpProcess, LoopsForEver) {
  for (const std::uintmax_t bytes : {std::uintmax_t{1000}, std::uintmax_t{1} << 40}) {
    EXPECT_EQ(refusal(loop, bytes), std::string(kStart) + "it took too long") << bytes;
  }
}

// Given: a request that may take 100 s and takes none, then one that loops. Claim: the unused time is not carried over.
TEST(DumpProcess, TimeIsForOneRequest) {
  DumpProcess process("file.h5", 1000, [] {
    return [](const DumpRequest& request, AnswerSpace& space) {
      if (request.head == 1) loop();
      contained::allow(100 * kReaderBytesPerSecond, 0);
      space.place(1);
    };
  });
  ASSERT_EQ(process.ask({0, 'q', 0}).size, 1U);
  const auto start = Clock::now();
  EXPECT_THROW(static_cast<void>(process.ask({0, 'q', 1})), DumpError);
  EXPECT_LT(Clock::now() - start, kSoon);
}

TEST(DumpProcess, TakesAllMemory) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer's own report wants memory and can wait for it without end";
#endif
  std::string message = refusal([] {
    std::vector<std::unique_ptr<char[]>> pieces;
    for (;;) {
      pieces.emplace_back(new char[1 << 20]);
      std::memset(pieces.back().get(), 1, 1 << 20);
    }
  });
  EXPECT_TRUE(message.starts_with("file.h5: /captures/a/q: wanted what ")) << message;
}

TEST(DumpProcess, WritesToTheStandardStreams) {
  EXPECT_EQ(refusal([] {
              for (int i = 0; i < 100; ++i) {
                std::fputs("HDF5-DIAG: several\nlines\n", stderr);
                std::puts("and more");
              }
              std::fflush(nullptr);
            }),
            "not refused");
}

// Given: answers of different sizes, also large ones. Claim: every byte comes, and asking again after a refusal of one
// request works; after the reader has ended every request is refused.
TEST(DumpProcess, AnswersInSharedMemory) {
  DumpProcess process("file.h5", 1000, [] {
    return [](const DumpRequest& request, AnswerSpace& space) {
      if (request.capture == 13) throw DumpError("file.h5", "/captures/m", "luck", "none");
      if (request.capture == 14) std::raise(SIGKILL);
      const auto bytes = static_cast<std::size_t>(request.head);
      std::memset(space.place(bytes), static_cast<int>(request.capture), bytes);
      space.kind = request.dataset;
    };
  });
  for (const Index bytes : {1, 70'000, 5, 3'000'000, 0, 3'000'001}) {
    const DumpAnswer answer = process.ask({7, 'k', bytes});
    ASSERT_EQ(answer.size, static_cast<std::size_t>(bytes));
    EXPECT_EQ(answer.kind, 'k');
    EXPECT_EQ(std::string(static_cast<const char*>(answer.bytes), answer.size), std::string(answer.size, '\7'));
  }
  EXPECT_THROW(static_cast<void>(process.ask({13, 'q', 1})), DumpError);
  EXPECT_EQ(process.ask({1, 'q', 2}).size, 2U);
  EXPECT_THROW(static_cast<void>(process.ask({14, 'q', 1})), DumpError);
  EXPECT_THROW(static_cast<void>(process.ask({1, 'q', 2})), DumpError);
}

// Given: a program that is killed while its reader waits, or loops. Claim: the reader ends too.
TEST(DumpProcess, EndsWithTheProgram) {
  const TemporaryDirectory directory;
  for (const bool busy : {false, true}) {
    const auto file = directory / fmt::format("pid{}", static_cast<int>(busy));
    const pid_t program = fork();
    if (program == 0) {
      DumpProcess process("file.h5", 1000, [&] {
        return [&](const DumpRequest&, AnswerSpace& space) {
          write_bytes(file, std::to_string(getpid()) + "\n");
          if (busy) loop();
          space.place(0);
        };
      });
      try {
        static_cast<void>(process.ask({}));
        pause();
      } catch (...) {
      }
      _exit(0);
    }
    std::string text;
    for (int i = 0; i < 2000 && !text.ends_with('\n'); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      text = read_text(file);
    }
    ASSERT_TRUE(text.ends_with('\n'));
    const pid_t reader = std::stoi(text);
    EXPECT_EQ(kill(reader, 0), 0);
    kill(program, SIGKILL);
    waitpid(program, nullptr, 0);
    const auto gone = [&] {  // or waiting for whoever adopted it
      const std::string status = read_text(fmt::format("/proc/{}/stat", reader));
      return status.empty() || status.find(") Z ") != std::string::npos;
    };
    for (int i = 0; i < 2000 && !gone(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(gone()) << busy;
  }
}

}  // namespace
}  // namespace draft
