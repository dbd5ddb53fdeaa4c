#include "harness/dump/process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>

#include "harness/dump/dump.hpp"
#include "harness/dump/rules.hpp"

namespace draft {
namespace {

constexpr std::size_t kNoteBytes = 4096;

/// The answer on the socket; its bytes themselves are in the shared memory.
struct AnswerHeader {
  enum Outcome : int { answered, refused, out_of_memory, file_limit };
  std::uint64_t bytes = 0;
  int kind = 0;
  Outcome outcome = answered;  // refused: the bytes are the refusal's text
};

char* note = nullptr;                       // in the child: shared memory for the name of what it is reading
std::uint64_t decoded_bytes = 0;            // in the child: bytes to decode, from which its limits follow
std::uint64_t used_seconds = 0;             // in the child: processor time before the current request
std::uint64_t own_data = 0, own_space = 0;  // in the child: bytes that it had when it started

/// Thrown if shared memory exceeds `ulimit -f`, which limits it as it limits files.
struct FileLimit {};

/// Moves a descriptor above 0 to 2, which may be free because a standard stream was closed.
int above_standard(int descriptor) {
  if (descriptor < 0 || descriptor > STDERR_FILENO) return descriptor;
  const int moved = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  close(descriptor);
  return moved;
}

/// A line of /proc/self/status in bytes; 0 if there is none.
std::uint64_t status_bytes(const std::string& name) {
  std::ifstream lines("/proc/self/status");
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":")) return 1024 * std::strtoull(line.c_str() + name.size() + 1, nullptr, 10);
  }
  return 0;
}

void set_limit(__rlimit_resource resource, std::uint64_t wanted) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0) return;
  limit.rlim_cur = std::min<rlim_t>(wanted, limit.rlim_max);
  setrlimit(resource, &limit);
}

void limit_memory(std::uint64_t more) {
  // On top of what the child has from its parent, in which an address sanitizer or CUDA may have reserved terabytes.
  if (own_data > 0) set_limit(RLIMIT_DATA, own_data + more);
  if (own_space > 0) set_limit(RLIMIT_AS, own_space + more);
}

void close_all_but(int first, int second) {
  const auto low = static_cast<unsigned>(std::min(first, second)),
             high = static_cast<unsigned>(std::max(first, second));
  close_range(STDERR_FILENO + 1, low - 1, 0);
  if (low + 1 < high) close_range(low + 1, high - 1, 0);
  close_range(high + 1, ~0U, 0);
}

/// Takes from the forked process everything with which it could do harm, and sets its limits.
void contain(int socket, int answers, std::uintmax_t file_bytes, pid_t parent, bool parent_is_main_thread) {
  // The signal comes when the parent's thread ends, not its process, so only a main thread will do. Otherwise the end
  // of the socket tells the child.
  if (parent_is_main_thread) prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
  const int nothing = open("/dev/null", O_RDWR);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) dup2(nothing, stream);
  close_all_but(socket, answers);
  for (const int number : {SIGTERM, SIGXCPU, SIGALRM, SIGCHLD}) signal(number, SIG_DFL);
  for (const int number : {SIGINT, SIGQUIT, SIGHUP, SIGPIPE, SIGXFSZ})
    signal(number, SIG_IGN);  // the parent handles these
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  own_data = status_bytes("VmData");
  own_space = status_bytes("VmSize");
  prctl(PR_SET_DUMPABLE, 0);
  set_limit(RLIMIT_CORE, 0);
  set_limit(RLIMIT_FSIZE, RLIM_INFINITY);  // it writes no file, but the limit counts for its shared memory
  set_limit(RLIMIT_STACK, kReaderStack);
  decoded_bytes = std::min<std::uint64_t>(file_bytes, kReaderOpening);  // capped: a sparse file may have any size
  contained::allow(0, 0);
}

[[noreturn]] void serve(int socket, int answers, const std::function<DumpAnswerer()>& start) {
  DumpAnswerer answer;
  AnswerSpace space(answers);
  for (DumpRequest request; recv(socket, &request, sizeof(request), 0) == sizeof(request);) {
    AnswerHeader header;
    try {
      if (answer) {
        contained::begin_request();
      } else {
        answer = start();
      }
      answer(request, space);
      header.bytes = space.bytes();
      header.kind = space.kind;
    } catch (const FileLimit&) {
      header.outcome = AnswerHeader::file_limit;
    } catch (const std::bad_alloc&) {
      header.outcome = AnswerHeader::out_of_memory;
    } catch (const std::exception& error) {
      const std::string refusal = error.what();
      header.outcome = AnswerHeader::refused;
      header.bytes = refusal.size();
      std::memcpy(space.place(refusal.size()), refusal.data(), refusal.size());
    }
    if (send(socket, &header, sizeof(header), MSG_NOSIGNAL) != sizeof(header)) break;
  }
  _exit(0);
}

}  // namespace

AnswerSpace::~AnswerSpace() {
  if (memory_ != nullptr) munmap(memory_, mapped_);
}

void* AnswerSpace::place(std::size_t bytes) {
  bytes_ = bytes;
  if (bytes <= mapped_ && memory_ != nullptr) return memory_;
  if (memory_ != nullptr) munmap(memory_, mapped_);
  memory_ = nullptr;
  const std::size_t wanted = std::max<std::size_t>(bytes, 1);
  // The limits are meant for HDF5's memory. This memory is the program's, which has checked the size.
  own_space += wanted > mapped_ ? wanted - mapped_ : 0;
  contained::allow(0, 0);
  if (ftruncate(descriptor_, static_cast<off_t>(wanted)) != 0) {
    if (errno == EFBIG) throw FileLimit();
    throw std::bad_alloc();
  }
  void* memory = mmap(nullptr, wanted, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor_, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = memory;
  mapped_ = wanted;
  return memory_;
}

namespace contained {

void now_reading(const std::string& object) {
  if (note == nullptr) return;  // not called in a child
  const std::size_t length = std::min(object.size(), kNoteBytes - 1);
  std::memcpy(note, object.data(), length);
  note[length] = '\0';
}

void begin_request() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  used_seconds = static_cast<std::uint64_t>(used.ru_utime.tv_sec + used.ru_stime.tv_sec) + 1;  // rounded up
  decoded_bytes = 0;
  allow(0, 0);
}

void allow(std::size_t bytes, std::size_t piece) {
  if (note == nullptr) return;
  decoded_bytes += bytes;
  set_limit(RLIMIT_CPU, used_seconds + kReaderSeconds + decoded_bytes / kReaderBytesPerSecond);
  limit_memory(kReaderMemory + kReaderPieces * static_cast<std::uint64_t>(piece));
}

}  // namespace contained

DumpProcess::DumpProcess(std::filesystem::path path, std::uintmax_t file_bytes,
                         const std::function<DumpAnswerer()>& start)
    : path_(std::move(path)) {
  const auto fail = [&](const char* what) {
    const std::string reason = std::strerror(errno);
    stop();
    throw DumpError(path_, "file", fmt::format("{} for a process that reads it", what), reason);
  };
  void* shared = mmap(nullptr, kNoteBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) fail("memory");
  note_ = static_cast<char*>(shared);
  answers_ = above_standard(memfd_create("dump", MFD_CLOEXEC));
  if (answers_ < 0) fail("memory");
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) fail("a socket");
  socket_ = above_standard(ends[0]);
  const int other = above_standard(ends[1]);
  const pid_t self = getpid();
  const bool main_thread = gettid() == self;
  child_ = socket_ < 0 || other < 0 ? -1 : fork();
  if (child_ == 0) {
    note = note_;
    contain(other, answers_, file_bytes, self, main_thread);
    serve(other, answers_, start);
  }
  const int reason = errno;
  close(other);
  errno = reason;
  if (child_ < 0) fail("room");
}

DumpProcess::~DumpProcess() { stop(); }

void DumpProcess::stop() {
  if (child_ > 0) {  // it may be killed at any time: it writes nothing
    kill(child_, SIGKILL);
    while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  child_ = -1;
  for (int* descriptor : {&socket_, &answers_}) {
    if (*descriptor >= 0) close(*descriptor);
    *descriptor = -1;
  }
  if (memory_ != nullptr) munmap(memory_, mapped_);
  if (note_ != nullptr) munmap(note_, kNoteBytes);
  memory_ = nullptr;
  note_ = nullptr;
}

void DumpProcess::refuse_ended() {
  note_[kNoteBytes - 1] = '\0';
  const std::string object = note_[0] == '\0' ? "file" : note_;
  int status = 0;
  pid_t ended = 0;
  while ((ended = waitpid(child_, &status, 0)) < 0 && errno == EINTR) {
  }
  child_ = -1;
  std::string how = "it ended";
  if (ended > 0 && WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    how = number == SIGXCPU   ? "it took too long"
          : number == SIGKILL ? "it was killed"
                              : fmt::format("it ended with signal {} ({})", number, strsignal(number));
  } else if (ended > 0) {
    how = fmt::format("it ended with status {}", WEXITSTATUS(status));
  }
  stop();
  throw DumpError(path_, object, "what HDF5 can read", fmt::format("damage or more than it stands: {}", how));
}

/// Maps `bytes` bytes of the child's answer into this process.
void DumpProcess::map(std::size_t bytes) {
  if (bytes <= mapped_ && memory_ != nullptr) return;
  if (memory_ != nullptr) munmap(memory_, mapped_);
  mapped_ = std::max<std::size_t>(bytes, 1);
  void* memory = mmap(nullptr, mapped_, PROT_READ, MAP_SHARED, answers_, 0);
  memory_ = memory == MAP_FAILED ? nullptr : memory;
  if (memory_ != nullptr) return;
  throw DumpError(path_, note_, fmt::format("{} bytes of memory for what is read", bytes), std::strerror(errno));
}

DumpAnswer DumpProcess::ask(const DumpRequest& request) {
  if (socket_ < 0) throw DumpError(path_, "file", "a dump that can be read", "one that was refused before");
  if (send(socket_, &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request)) refuse_ended();
  pollfd answered{socket_, POLLIN, 0};
  int ready = 0;
  while ((ready = poll(&answered, 1, kReaderSilence)) < 0 && errno == EINTR) {
  }
  if (ready == 0) {
    const std::string object = note_[0] == '\0' ? "file" : note_;
    stop();
    throw DumpError(path_, object, "an answer of the disk", fmt::format("none for {} s", kReaderSilence / 1000));
  }
  AnswerHeader header;
  if (recv(socket_, &header, sizeof(header), 0) != sizeof(header)) refuse_ended();
  map(header.bytes);
  if (header.outcome == AnswerHeader::answered) return {memory_, header.bytes, header.kind};
  if (header.outcome == AnswerHeader::refused) {
    throw DumpError(std::string(static_cast<const char*>(memory_), header.bytes));
  }
  if (header.outcome == AnswerHeader::file_limit) {
    throw DumpError(path_, note_, "room in shared memory for what is read", "a lower limit of file sizes (ulimit -f)");
  }
  throw DumpError(path_, note_, "what a file of its size takes memory for", "more");
}

}  // namespace draft
