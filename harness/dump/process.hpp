#pragma once
// Reads a dump in a separate process. HDF5 crashes, loops or takes all memory on some damaged files. So only a child
// process calls it on a given file, and whatever happens to the child becomes a refusal in the program.
//
// The child is a fork without exec, so that no second executable has to be installed and found. That is safe because
// the child uses nothing of the parent but memory: it never touches the parent's CUDA, standard streams, locks or
// threads, malloc works after a fork (glibc's does), it closes every other descriptor, and it leaves by _exit. It ends
// with the Dump or with the program, whichever ends first.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "reference/problem.hpp"

namespace draft {

/// A request to the child: the dump's structure (capture < 0), or one head of one dataset.
struct DumpRequest {
  Index capture = -1;
  char dataset = 'q';  // q, k, v, o
  Index head = 0;      // its index in the dataset
};

/// In the child: memory for an answer's bytes, shared with the program. `place(n)` returns room for n bytes.
class AnswerSpace {
 public:
  explicit AnswerSpace(int descriptor) : descriptor_(descriptor) {}
  AnswerSpace(const AnswerSpace&) = delete;
  AnswerSpace& operator=(const AnswerSpace&) = delete;
  ~AnswerSpace();
  /// Throws std::bad_alloc. The memory is the object's own until the next call.
  void* place(std::size_t bytes);
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

  int kind = 0;  // what the bytes are; sent with the answer

 private:
  int descriptor_;
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;  // size of the answer
  std::size_t mapped_ = 0;
};

/// In the child: its limits, and what it is reading.
namespace contained {
/// Notes the object that is read next: the refusal names it if the child crashes.
void now_reading(const std::string& object);
/// Resets the limit of processor time: time that earlier requests did not use is not carried over.
void begin_request();
/// Raises the limits of time and memory for `bytes` more bytes to decode, in pieces of `piece` bytes.
void allow(std::size_t bytes, std::size_t piece);
}  // namespace contained

/// In the child: answers a request or throws; the exception's text is the refusal.
using DumpAnswerer = std::function<void(const DumpRequest&, AnswerSpace&)>;

/// Bytes of the child's answer; valid until the next answer.
struct DumpAnswer {
  const void* bytes = nullptr;
  std::size_t size = 0;
  int kind = 0;
};

/// The parent's end of the child.
class DumpProcess {
 public:
  /// Starts the child, in which `start()` opens the file at the first request. `file_bytes`: the file's size, from
  /// which the limits follow. Throws UsageError if no process can be started.
  DumpProcess(std::filesystem::path path, std::uintmax_t file_bytes, const std::function<DumpAnswerer()>& start);
  DumpProcess(const DumpProcess&) = delete;
  DumpProcess& operator=(const DumpProcess&) = delete;
  ~DumpProcess();

  /// Sends a request and waits. Throws DumpError with the child's refusal, or with what happened to the child.
  [[nodiscard]] DumpAnswer ask(const DumpRequest& request);

 private:
  [[noreturn]] void refuse_ended();
  void map(std::size_t bytes);
  void stop();

  std::filesystem::path path_;
  int child_ = -1;  // process id
  int socket_ = -1;
  int answers_ = -1;        // memory shared with the child
  char* note_ = nullptr;    // likewise: the name of what it is reading
  void* memory_ = nullptr;  // the latest answer
  std::size_t mapped_ = 0;
};

}  // namespace draft
