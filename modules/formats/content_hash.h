// ContentHash: 128 bits by which what was made out of files is found again and known to be theirs.
//
// Against chance, not against an adversary: each word goes into two accumulators by steps that can be undone (exclusive
// or, rotation, an odd factor), so contents that differ in one word never agree; several gigabytes a second.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lathe {

class ContentHash {
 public:
  // The result depends on where one piece ends and the next begins.
  ContentHash& add(const void* data, size_t bytes);
  ContentHash& add(std::string_view text) { return add(text.data(), text.size()); }
  ContentHash& add(int64_t number) { return add(&number, sizeof number); }
  // 32 hexadecimal digits.
  std::string hex() const;

 private:
  void word(uint64_t value);
  uint64_t first_ = 0x243F6A8885A308D3u, second_ = 0x13198A2E03707344u;  // digits of pi
};

// Of the content of a file. Throws Error as MappedFile::open does.
std::string hash_of_file(const std::string& path);

}  // namespace lathe
