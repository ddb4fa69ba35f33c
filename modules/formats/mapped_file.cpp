// See mapped_file.h. A private read-only mapping: pages come from the page cache and can be given back at any time.
#include "formats/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "formats/git_lfs.h"
#include "tensor/errors.h"

namespace lathe {

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a named pipe that nobody writes to must not wait for ever.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  check(descriptor >= 0, "open", "cannot open {}: {}", path, std::strerror(errno));
  struct stat status = {};
  const bool known = fstat(descriptor, &status) == 0;
  const bool regular = known && S_ISREG(status.st_mode);
  void* data = MAP_FAILED;
  if (regular && status.st_size > 0)
    data = mmap(nullptr, static_cast<size_t>(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
  const int error = errno;
  close(descriptor);
  check(regular, "open", "{} is {}, expected a file", path, known && S_ISDIR(status.st_mode) ? "a folder" : "no file");
  check(status.st_size > 0, "open", "{} is empty", path);
  check(data != MAP_FAILED, "open", "cannot map {} ({} bytes): {}", path, status.st_size, std::strerror(error));

  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  file->data_ = static_cast<const uint8_t*>(data);
  file->size_ = static_cast<size_t>(status.st_size);
  refuse_git_lfs_pointer({reinterpret_cast<const char*>(file->data_), file->size_}, path);
  return file;
}

std::pair<std::shared_ptr<const MappedFile>, uint8_t*> MappedFile::scratch(const std::string& path, size_t bytes) {
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  if (bytes == 0) return {file, nullptr};
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  check(data != MAP_FAILED, "open", "cannot take {} bytes of memory for {}: {}", bytes, path, std::strerror(errno));
  file->data_ = static_cast<const uint8_t*>(data);
  file->size_ = bytes;
  return {file, static_cast<uint8_t*>(data)};
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}

void MappedFile::release(const uint8_t* begin, size_t length) const {
  // Outwards to whole huge pages: where the page cache holds the file in them, one byte that is read maps all of one
  // again, what was released of it too. A neighbour that is still to be read costs a fault.
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  const auto file = reinterpret_cast<uintptr_t>(data_), from = reinterpret_cast<uintptr_t>(begin);
  const uintptr_t first = std::max(file, from / kHugePage * kHugePage);
  const uintptr_t end = std::min(file + size_, (from + length + kHugePage - 1) / kHugePage * kHugePage);
  madvise(const_cast<uint8_t*>(data_) + (first - file), end - first, MADV_DONTNEED);
}

}  // namespace lathe
