// See atomic_file.h.
#include "formats/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "tensor/errors.h"

namespace lathe {

namespace fs = std::filesystem;

namespace {

// A name beside `target` that no other process and no other object takes.
std::string temporary_name(const std::string& target) {
  static std::atomic<int> counter = 0;
  return fmt::format("{}.{}-{}.partial", target, getpid(), counter++);
}

// Waits until what was written to a file or folder is on the disk. Throws Error where the disk says that it is not.
void sync(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = file >= 0 && fsync(file) == 0;
  const int error = errno;
  if (file >= 0) close(file);
  // Some file systems cannot sync a folder.
  check(synced || error == EINVAL, "write", "cannot write {}: {}", path, std::strerror(error));
}

}  // namespace

void check_not_input(const std::string& output, const std::vector<std::string>& inputs) {
  std::error_code ignored;
  if (!fs::is_regular_file(output, ignored)) return;
  for (const std::string& input : inputs)
    if (fs::equivalent(output, input, ignored))  // the same inode of the same device
      throw Error(
          fmt::format("write: {} is {}", output,
                      output == input ? "a file that is read" : "the same file as " + input + ", which is read"),
          "give the output another name");
}

AtomicFile::AtomicFile(const std::string& path) : path_(path), target_(path) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (fs::is_directory(status)) fail("write", EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    file_ = std::fopen(path.c_str(), "wb");
    if (!file_) fail("write", errno);
    return;
  }
  if (fs::is_symlink(fs::symlink_status(path, ignored))) {
    const fs::path real = fs::weakly_canonical(path, ignored);
    if (!ignored) target_ = real.string();
  }
  temporary_ = temporary_name(target_);
  file_ = std::fopen(temporary_.c_str(), "wbx");
  if (!file_) {
    const int error = errno;
    temporary_.clear();
    fail("create", error);
  }
}

AtomicFile::~AtomicFile() {
  if (file_) std::fclose(file_);
  if (!temporary_.empty()) std::remove(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t bytes) {
  if (bytes > 0 && std::fwrite(data, 1, bytes, file_) != bytes) fail("write", errno);
}

void AtomicFile::flush() {
  if (std::fflush(file_) != 0) fail("write", errno);
}

void AtomicFile::commit() {
  flush();  // what is buffered may only now meet the full disk, and a network file system may report it at the close
  if (std::fclose(std::exchange(file_, nullptr)) != 0) fail("write", errno);
  if (temporary_.empty()) return;
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail("write", errno);
  temporary_.clear();
}

void AtomicFile::fail(const char* what, int error) const {
  throw Error(fmt::format("write: cannot {} {}: {}", what, path_, std::strerror(error)));
}

AtomicFolder::AtomicFolder(const std::string& target) : target_(target) {
  while (target_.size() > 1 && target_.back() == '/') target_.pop_back();
  std::error_code error;
  if (fs::exists(target_, error) && !(fs::is_directory(target_, error) && fs::is_empty(target_, error)))
    throw Error(fmt::format("write: {} exists already and is not an empty folder", target),
                "name another folder, or remove it first");
  const std::string temporary = temporary_name(target_);
  fs::create_directory(temporary, error);
  check(!error, "write", "cannot create the folder {}: {}", target, error.message());
  temporary_ = temporary;
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(temporary_))
    if (entry.is_regular_file()) sync(entry.path().string());
  sync(temporary_);
  std::error_code error;
  fs::rename(temporary_, target_, error);
  check(!error, "write", "cannot rename {} to {}: {}", temporary_, target_, error.message());
  temporary_.clear();
  const fs::path parent = fs::path(target_).parent_path();
  sync(parent.empty() ? "." : parent.string());
}

}  // namespace lathe
