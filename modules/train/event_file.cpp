// See event_file.h.
#include "train/event_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "tensor/errors.h"

namespace lathe {
namespace {

std::string little_endian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

// Protobuf's wire format: a varint holds 7 bits a byte, the lowest first; a field begins with its number and wire type.
std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

std::string integer_field(int number, int64_t value) {
  return varint(static_cast<uint64_t>(number) << 3) + varint(static_cast<uint64_t>(value));
}

std::string double_field(int number, double value) {
  return varint(static_cast<uint64_t>(number) << 3 | 1) + little_endian(std::bit_cast<uint64_t>(value), 8);
}

std::string float_field(int number, float value) {
  return varint(static_cast<uint64_t>(number) << 3 | 5) + little_endian(std::bit_cast<uint32_t>(value), 4);
}

// Of bytes, a string or a message.
std::string bytes_field(int number, std::string_view bytes) {
  return varint(static_cast<uint64_t>(number) << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}

// Event { wall_time = 1, step = 2, and one of: file_version = 3, summary = 5, session_log = 7 }
std::string event_of(double wall_time, int64_t step, std::string_view what) {
  return double_field(1, wall_time) + integer_field(2, step) + std::string(what);
}

// Summary { value = 1 }, Summary.Value { tag = 1, and its content }
std::string summary_of(std::string_view tag, std::string_view content) {
  return bytes_field(5, bytes_field(1, bytes_field(1, tag) + std::string(content)));
}

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// TensorBoard reads the files of a folder in the order of their names, which others fill with the time of day; numbers
// keep that order where a clock is set back.
std::string next_path(const std::string& folder) {
  constexpr std::string_view kPrefix = "events.out.tfevents.";
  int64_t last = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix)) last = std::max<int64_t>(last, std::atoll(name.c_str() + kPrefix.size()));
  }
  check(!error, "write", "cannot list the folder {}: {}", folder, error.message());
  return fmt::format("{}/{}{:010}.lathe", folder, kPrefix, last + 1);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t i = 0; i < 256; ++i) {
      table[i] = i;
      for (int bit = 0; bit < 8; ++bit) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
    }
    return table;
  }();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

std::string tf_record(std::string_view data) {
  const auto masked = [](std::string_view bytes) {
    return little_endian(std::rotr(crc32c(bytes), 15) + 0xa282ead8u, 4);
  };
  const std::string length = little_endian(data.size(), 8);
  return length + masked(length) + std::string(data) + masked(data);
}

std::string scalar_event(double wall_time, int64_t step, std::string_view tag, double value) {
  return event_of(wall_time, step, summary_of(tag, float_field(2, static_cast<float>(value))));  // simple_value = 2
}

EventFile::EventFile(const std::string& folder, int64_t next_step) : file_(nullptr, std::fclose) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  check(!error, "write", "cannot create the folder {}: {}", folder, error.message());
  path_ = next_path(folder);
  file_.reset(std::fopen(path_.c_str(), "wbx"));
  check(file_ != nullptr, "write", "cannot create {}: {}", path_, std::strerror(errno));
  const double now = seconds_since_1970();
  write(event_of(now, 0, bytes_field(3, "brain.Event:2")));
  write(event_of(now, next_step, bytes_field(7, integer_field(1, 1))));  // SessionLog { status = 1: START }
  flush();
}

void EventFile::add_scalar(std::string_view tag, double value, int64_t step) {
  write(scalar_event(seconds_since_1970(), step, tag, value));
}

void EventFile::flush() {
  check(std::fflush(file_.get()) == 0, "write", "cannot write {}: {}", path_, std::strerror(errno));
}

void EventFile::write(std::string_view event) {
  const std::string record = tf_record(event);
  check(std::fwrite(record.data(), 1, record.size(), file_.get()) == record.size(), "write", "cannot write {}: {}",
        path_, std::strerror(errno));
}

}  // namespace lathe
