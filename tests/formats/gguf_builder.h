// Builds GGUF files byte by byte, right or wrong.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::test {

class GgufBuilder {
 public:
  enum Type : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

  template <class T>
  static std::string bytes_of(T value) {
    std::string bytes(sizeof(T), '\0');
    std::memcpy(bytes.data(), &value, sizeof(T));
    return bytes;
  }
  static std::string text(std::string_view value) { return bytes_of<uint64_t>(value.size()) + std::string(value); }

  uint32_t version = 3;
  std::string magic = "GGUF";
  uint64_t alignment = 32;

  GgufBuilder& entry(std::string_view key, uint32_t type, const std::string& value) {
    entries_ += text(key) + bytes_of(type) + value;
    ++entry_count;
    return *this;
  }
  GgufBuilder& entry(std::string_view key, std::string_view value) { return entry(key, string, text(value)); }
  GgufBuilder& entry(std::string_view key, uint32_t value) { return entry(key, u32, bytes_of(value)); }
  GgufBuilder& entry(std::string_view key, float value) { return entry(key, f32, bytes_of(value)); }
  GgufBuilder& list(std::string_view key, uint32_t item_type, const std::vector<std::string>& items) {
    std::string value = bytes_of(item_type) + bytes_of<uint64_t>(items.size());
    for (const std::string& item : items) value += item_type == string ? text(item) : item;
    return entry(key, array, value);
  }
  // `dims` innermost first, as the file has them; the data follows that of the tensor before, padded.
  GgufBuilder& tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                      const std::string& data) {
    return tensor_at(name, dims, type, data_.size(), data);
  }
  GgufBuilder& tensor_at(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type, uint64_t offset,
                         const std::string& data) {
    table_ += text(name) + bytes_of(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) table_ += bytes_of(dim);
    table_ += bytes_of(type) + bytes_of(offset);
    data_ += data;
    data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
    ++tensor_count;
    return *this;
  }

  uint64_t entry_count = 0, tensor_count = 0;

  std::string build() const {
    std::string file = magic + bytes_of(version) + bytes_of(tensor_count) + bytes_of(entry_count) + entries_ + table_;
    if (tensor_count > 0) file.resize((file.size() + alignment - 1) / alignment * alignment, '\0');
    return file + data_;
  }

 private:
  std::string entries_, table_, data_;
};

// `count` floats 0, 1, 2, ... as bytes.
inline std::string counting_floats(size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes += GgufBuilder::bytes_of(static_cast<float>(i));
  return bytes;
}

}  // namespace lathe::test
