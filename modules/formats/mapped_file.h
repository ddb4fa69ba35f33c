// A read-only memory-mapped file.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace lathe {

class MappedFile {
 public:
  // Throws Error naming the path when it cannot be opened, is no regular file, is empty, or is a git-lfs pointer.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  // Memory of its own in the place of a file, zeros until it is written, for what is made out of the file `path`: pages
  // take memory once they are touched, and `release` gives them back with their content.
  static std::pair<std::shared_ptr<const MappedFile>, uint8_t*> scratch(const std::string& path, size_t bytes);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  // Tells the system that [begin, begin + length), and what lies in the same huge pages, need not stay in memory; it is
  // mapped again when it is read.
  void release(const uint8_t* begin, size_t length) const;

 private:
  MappedFile() = default;
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace lathe
