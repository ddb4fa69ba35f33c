// See content_hash.h.
#include "formats/content_hash.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "formats/mapped_file.h"

namespace lathe {
namespace {

// Every bit of the result depends on every bit of `x`.
uint64_t scramble(uint64_t x) {
  x = (x ^ x >> 32) * 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 29) * 0xD1B54A32D192ED03u;
  return x ^ x >> 32;
}

}  // namespace

void ContentHash::word(uint64_t value) {
  first_ = std::rotl(first_ ^ value, 29) * 0x9E3779B97F4A7C15u;
  second_ = std::rotl(second_ ^ value, 37) * 0xD1B54A32D192ED03u;
}

ContentHash& ContentHash::add(const void* data, size_t bytes) {
  const auto* at = static_cast<const uint8_t*>(data);
  uint64_t value = 0;
  size_t left = bytes;
  for (; left >= sizeof value; left -= sizeof value, at += sizeof value) {
    std::memcpy(&value, at, sizeof value);
    word(value);
  }
  value = 0;
  if (left > 0) std::memcpy(&value, at, left);
  word(value);
  word(bytes);
  return *this;
}

std::string ContentHash::hex() const {
  return fmt::format("{:016x}{:016x}", scramble(first_ ^ std::rotl(second_, 32)), scramble(second_ + first_));
}

std::string hash_of_file(const std::string& path) {
  const auto file = MappedFile::open(path);
  return ContentHash().add(file->bytes().data(), file->bytes().size()).hex();
}

}  // namespace lathe
