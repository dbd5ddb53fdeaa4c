#include "harness/record/line_reader.hpp"

#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>

#include "harness/options.hpp"
#include "harness/text.hpp"

namespace draft {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 18;
constexpr int kGzipAlone = 15 + 16;  // inflateInit2's window bits, for gzip's format and no other

/// Bytes of an open file, 0 at its end, -1 and errno on failure.
ssize_t read_bytes(int file, char* to, std::size_t size) {
  ssize_t found = 0;
  do {
    found = ::read(file, to, size);
  } while (found < 0 && errno == EINTR);
  return found;
}

}  // namespace

struct LineReader::Inflater {
  z_stream stream{};
  std::string input = std::string(kPiece, '\0');
  bool ended = true;  // of a member; a file is one or more of them
};

void LineReader::Close::operator()(Inflater* inflater) const {
  inflateEnd(&inflater->stream);
  delete inflater;
}

bool is_compressed(const std::filesystem::path& path) { return path.extension() == ".gz"; }

LineReader::LineReader(int file, std::filesystem::path path) : file_(file), path_(std::move(path)) {
  if (!is_compressed(path_)) return;
  inflater_.reset(new Inflater);
  if (inflateInit2(&inflater_->stream, kGzipAlone) != Z_OK) throw std::bad_alloc();
}

void LineReader::fail(const std::string& why) const {
  throw UsageError(fmt::format("{}: line {}: records cannot be read: {}", shown(path_.string()), number_, why));
}

std::size_t LineReader::read_piece(char* to, std::size_t size) {
  if (!inflater_) {
    const ssize_t found = read_bytes(file_, to, size);
    if (found < 0) fail(std::strerror(errno));
    return static_cast<std::size_t>(found);
  }
  z_stream& stream = inflater_->stream;
  stream.next_out = reinterpret_cast<Bytef*>(to);
  stream.avail_out = static_cast<uInt>(size);
  while (stream.avail_out == size) {
    if (stream.avail_in == 0) {
      const ssize_t found = read_bytes(file_, inflater_->input.data(), inflater_->input.size());
      if (found < 0) fail(std::strerror(errno));
      if (found == 0 && !inflater_->ended) fail("wanted the rest of what gzip made, found the file's end");
      if (found == 0) break;
      stream.next_in = reinterpret_cast<Bytef*>(inflater_->input.data());
      stream.avail_in = static_cast<uInt>(found);
    }
    inflater_->ended = false;
    const int status = inflate(&stream, Z_NO_FLUSH);
    if (status == Z_STREAM_END) {
      inflater_->ended = true;
      inflateReset(&stream);
    } else if (status == Z_MEM_ERROR) {
      throw std::bad_alloc();
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      fail(fmt::format("wanted what gzip made, found damage: {}", stream.msg == nullptr ? "no gzip" : stream.msg));
    }
  }
  return size - stream.avail_out;
}

bool LineReader::next(std::string& line) {
  line.clear();
  ++number_;
  for (;;) {
    const std::size_t end = buffer_.find('\n', at_);
    has_end_ = end != std::string::npos;
    line.append(buffer_, at_, (has_end_ ? end : buffer_.size()) - at_);
    if (line.size() > kLongestLine) {
      throw UsageError(fmt::format("{}: line {}: wanted at most {} bytes, found more", shown(path_.string()), number_,
                                   kLongestLine));
    }
    at_ = has_end_ ? end + 1 : buffer_.size();
    if (has_end_) return true;
    buffer_.resize(kPiece);
    at_ = 0;
    const std::size_t found = read_piece(buffer_.data(), kPiece);
    buffer_.resize(found);
    if (found == 0) return !line.empty();
  }
}

}  // namespace draft
