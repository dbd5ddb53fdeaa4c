#pragma once
// Reads a dump in a process of its own. HDF5 crashes, loops or takes all memory on some damaged files, so the program
// itself never calls it on a file that it was given: a child does, and the program sees a refusal whatever happens to
// it.
//
// The child is a fork without exec: no second executable has to be found, whatever the program is and wherever it is
// installed. That is sound because the child uses nothing of the parent but memory: it never touches CUDA, standard
// streams, locks or threads of the parent, its malloc is usable after a fork (glibc's is), it closes every other
// descriptor, and it leaves by _exit. It ends with the dump or with the program, whichever is first.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "reference/problem.hpp"

namespace draft {

/// What the program asks for: the dump's structure (capture < 0), or one head of one dataset.
struct DumpRequest {
  Index capture = -1;
  char dataset = 'q';  // q, k, v, o
  Index head = 0;      // of the dataset
};

/// In the child: takes an answer's bytes. `place(n)` is memory for n bytes that the program sees too.
class AnswerSpace {
 public:
  explicit AnswerSpace(int descriptor) : descriptor_(descriptor) {}
  AnswerSpace(const AnswerSpace&) = delete;
  AnswerSpace& operator=(const AnswerSpace&) = delete;
  ~AnswerSpace();
  /// Throws std::bad_alloc. The memory is the object's own until the next call.
  void* place(std::size_t bytes);
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  int kind = 0;  // what the bytes are; goes with the answer

 private:
  int descriptor_;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;  // of the answer
  std::size_t mapped_ = 0;
};

/// In the child: what it may use, and what it is about to do.
namespace contained {
/// The object that a refusal names if the child does not come back.
void now_reading(const std::string& object);
/// What was left of the processor's time for the requests before does not count for the next one.
void begin_request();
/// Before `bytes` more bytes are decoded, in pieces of `piece` bytes at once: more of both may be taken.
void allow(std::size_t bytes, std::size_t piece);
}  // namespace contained

/// In the child: answers a request or throws; the exception's text is the refusal.
using DumpAnswerer = std::function<void(const DumpRequest&, AnswerSpace&)>;

/// Bytes that the child has placed; the next answer takes their place.
struct DumpAnswer {
  const void* bytes = nullptr;
  std::size_t size = 0;
  int kind = 0;
};

/// The parent's end of the child.
class DumpProcess {
 public:
  /// Starts the child; there `start()` opens the file (on the first request). `file_bytes`: the file's size, which the
  /// limits follow. Throws UsageError if there can be no process.
  DumpProcess(std::filesystem::path path, std::uintmax_t file_bytes, const std::function<DumpAnswerer()>& start);
  DumpProcess(const DumpProcess&) = delete;
  DumpProcess& operator=(const DumpProcess&) = delete;
  ~DumpProcess();

  /// Throws DumpError with the child's refusal, or with what became of the child.
  [[nodiscard]] DumpAnswer ask(const DumpRequest& request);

 private:
  [[noreturn]] void refuse_ended();
  void map(std::size_t bytes);
  void stop();

  std::filesystem::path path_;
  int child_ = -1;  // process id
  int socket_ = -1;
  int answers_ = -1;        // memory shared with the child
  char* note_ = nullptr;    // likewise: what it is reading
  void* memory_ = nullptr;  // of the latest answer
  std::size_t mapped_ = 0;
};

}  // namespace draft
