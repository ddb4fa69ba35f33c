// Preloaded into the program: call number FAIL_CALL (from 1) by which a file below FAIL_FOLDER is written, synced,
// closed, made or renamed fails, with the error FAIL_ERRNO or, where that is "kill", with the end of the process. The
// number of such calls is written to FAIL_COUNT when the program ends.
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <mutex>
#include <set>
#include <string>

namespace {

std::mutex mutex;
std::set<FILE*>& files() {
  static auto* set = new std::set<FILE*>;  // calls come after the ends of static objects too
  return *set;
}
long calls = 0;

template <class F>
F* real(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

bool watched(const char* path) {
  const char* folder = getenv("FAIL_FOLDER");
  return folder != nullptr && path != nullptr && strstr(path, folder) != nullptr;
}

// Counts a call; true where it is the one that fails.
bool fails() {
  const std::lock_guard lock(mutex);
  const char* number = getenv("FAIL_CALL");
  if (number == nullptr || ++calls != atol(number)) return false;
  const char* error = getenv("FAIL_ERRNO");
  if (strcmp(error, "kill") == 0) kill(getpid(), SIGKILL);
  errno = atoi(error);
  return true;
}

__attribute__((destructor)) void report() {
  const char* path = getenv("FAIL_COUNT");
  if (path == nullptr) return;
  const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const std::string text = std::to_string(calls);
  if (file >= 0 && write(file, text.data(), text.size()) > 0) close(file);
}

bool is_watched(FILE* file) {
  const std::lock_guard lock(mutex);
  return files().count(file) > 0;
}

}  // namespace

extern "C" {

FILE* fopen(const char* path, const char* mode) {
  FILE* file = real<FILE*(const char*, const char*)>("fopen")(path, mode);
  if (file != nullptr && mode[0] == 'w' && watched(path)) {
    const std::lock_guard lock(mutex);
    files().insert(file);
  }
  return file;
}

size_t fwrite(const void* data, size_t size, size_t count, FILE* file) {
  if (is_watched(file) && fails()) return 0;
  return real<size_t(const void*, size_t, size_t, FILE*)>("fwrite")(data, size, count, file);
}

int fclose(FILE* file) {
  const bool counted = is_watched(file);
  {
    const std::lock_guard lock(mutex);
    files().erase(file);
  }
  const bool failed = counted && fails();
  const int error = errno;
  const int result = real<int(FILE*)>("fclose")(file);
  if (!failed) return result;
  errno = error;
  return EOF;
}

int fsync(int file) {
  char link[64], path[4096] = {};
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  if (readlink(link, path, sizeof path - 1) > 0 && watched(path) && fails()) return -1;
  return real<int(int)>("fsync")(file);
}

int rename(const char* from, const char* to) {
  if (watched(to) && fails()) return -1;
  return real<int(const char*, const char*)>("rename")(from, to);
}

int mkdir(const char* path, mode_t mode) {
  if (watched(path) && fails()) return -1;
  return real<int(const char*, mode_t)>("mkdir")(path, mode);
}

}  // extern "C"
