// See standard_streams.h.
#include "cli/standard_streams.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "tensor/errors.h"

namespace lathe {
namespace {

std::FILE* heard = nullptr;      // standard error that was, where messages are dropped
bool pipes_end_quietly = false;  // SIGPIPE had its usual meaning when the program began

// A descriptor that is closed would be the next file's that is opened, and messages would go into that file. What
// stands in its place can be neither read nor written, but for standard error, where messages vanish.
void hold_closed_descriptors() {
  for (const int descriptor : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(descriptor, F_GETFD) < 0 && errno == EBADF)
      ::open("/dev/null", descriptor == STDOUT_FILENO ? O_RDONLY : O_WRONLY);  // the lowest that is free: this one
}

// fmt throws where a message cannot be written.
void swallow_failures_of_stderr() {
  if (isatty(STDERR_FILENO) != 0) return;
  cookie_io_functions_t functions = {};
  functions.write = [](void*, const char* text, size_t size) {
    for (size_t done = 0; done < size;) {
      const ssize_t written = write(STDERR_FILENO, text + done, size - done);
      if (written <= 0 && errno != EINTR) break;
      if (written > 0) done += static_cast<size_t>(written);
    }
    return static_cast<ssize_t>(size);
  };
  std::FILE* forgiving = fopencookie(nullptr, "w", functions);
  if (!forgiving) return;
  std::setvbuf(forgiving, nullptr, _IOLBF, BUFSIZ);
  stderr = forgiving;
}

}  // namespace

void guard_standard_streams() {
  hold_closed_descriptors();
  swallow_failures_of_stderr();
  pipes_end_quietly = std::signal(SIGPIPE, SIG_IGN) == SIG_DFL;
}

void write_output(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw Error(fmt::format("standard output: cannot be written: {}", std::strerror(errno)));
}

void drop_all_but_errors() {
  if (heard) return;
  heard = stderr;
  for (std::FILE** stream : {&stdout, &stderr})
    if (std::FILE* nothing = std::fopen("/dev/null", "w")) *stream = nothing;
}

std::FILE* error_stream() { return heard ? heard : stderr; }

bool reader_has_gone() {
  pollfd output{STDOUT_FILENO, POLLOUT, 0};
  return pipes_end_quietly && std::ferror(stdout) != 0 && poll(&output, 1, 0) > 0 && (output.revents & POLLERR) != 0;
}

int finish_output(int code) {
  const bool flushed = std::fflush(stdout) == 0;
  const std::string reason = flushed ? "" : std::string(": ") + std::strerror(errno);
  if (reader_has_gone()) {
    std::signal(SIGPIPE, SIG_DFL);
    std::raise(SIGPIPE);
  }
  if (code != 0 || (flushed && std::ferror(stdout) == 0)) return code;
  fmt::print(stderr, "lathe: error: standard output: cannot be written{}\n", reason);
  return 1;
}

}  // namespace lathe
