// AtomicFile and AtomicFolder: output that is either whole under its name or not there at all.
#pragma once
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

// Throws Error where `output` is one of the files `inputs`, under the same name or another one, links included: what is
// read would be lost. Called before the work is begun; an output that does not exist is none of them.
void check_not_input(const std::string& output, const std::vector<std::string>& inputs);

// Writes to a temporary name beside the target; `commit` renames it. Without a commit the destructor removes it, so an
// exception on the way leaves nothing behind and an older file untouched. A target that exists and is no regular file
// (a pipe, /dev/stdout) is written directly: renaming over it would replace the device.
class AtomicFile {
 public:
  // Throws Error naming the path and the system's reason when it cannot be created.
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Each throws Error naming the path and the system's reason (a full disk, for one).
  void write(const void* data, size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Hands on what is buffered, so that the file under its temporary name is whole.
  void flush();
  // Empty where the target is written directly.
  const std::string& temporary() const { return temporary_; }
  void commit();

 private:
  [[noreturn]] void fail(const char* what, int error) const;
  std::string path_;       // as the caller named it, for messages
  std::string target_;     // what is renamed over: `path_` with symbolic links resolved
  std::string temporary_;  // empty when written directly
  std::FILE* file_ = nullptr;
};

// The same for a folder of files: they are written into `path()`, a folder of a temporary name beside the target, which
// `commit` renames once all of it is on the disk, so that not even a machine that loses its power leaves a half of it.
// A target that exists and is not empty is an Error: nothing of a user's is overwritten.
class AtomicFolder {
 public:
  explicit AtomicFolder(const std::string& target);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::string& path() const { return temporary_; }
  void commit();

 private:
  std::string target_, temporary_;
};

}  // namespace lathe
