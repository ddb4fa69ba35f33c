// Writing GGUF version 3 (declared in gguf.h, where the layout's reader says how a file is built).
#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_set>

#include "formats/atomic_file.h"
#include "formats/gguf.h"
#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

constexpr size_t kAlignment = 32;  // of each tensor's data, the format's own
size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// The numbers of the value types.
enum WrittenType : uint32_t { u32 = 4, i32 = 5, f32 = 6, boolean = 7, string = 8, array = 9, i64 = 11 };

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_text(std::string& out, std::string_view text) {
  put<uint64_t>(out, text.size());
  out += text;
}

// Appends the type and the value of `key` of the file `path`.
struct ValueWriter {
  std::string& out;
  const std::string &path, &key;

  // The format's numbers are f32 here: what is finite must stay so.
  float narrow(double value) const {
    check(!std::isfinite(value) || std::isfinite(static_cast<float>(value)), "gguf",
          "{}: metadata {} is {}, beyond the range of f32", path, quote(key), value);
    return static_cast<float>(value);
  }

  void operator()(int64_t value) const {
    if (value >= 0 && value <= std::numeric_limits<uint32_t>::max()) {
      put<uint32_t>(out, u32);
      put(out, static_cast<uint32_t>(value));
    } else if (value < 0 && value >= std::numeric_limits<int32_t>::min()) {
      put<uint32_t>(out, i32);
      put(out, static_cast<int32_t>(value));
    } else {
      put<uint32_t>(out, i64);
      put(out, value);
    }
  }
  void operator()(double value) const {
    put<uint32_t>(out, f32);
    put(out, narrow(value));
  }
  void operator()(bool value) const {
    put<uint32_t>(out, boolean);
    put<uint8_t>(out, value ? 1 : 0);
  }
  void operator()(const std::string& value) const {
    put<uint32_t>(out, string);
    put_text(out, value);
  }
  void operator()(const std::vector<int64_t>& values) const {
    const bool fits = std::all_of(values.begin(), values.end(), [](int64_t v) { return v == static_cast<int32_t>(v); });
    begin_array(fits ? i32 : i64, values.size());
    for (const int64_t v : values) fits ? put(out, static_cast<int32_t>(v)) : put(out, v);
  }
  void operator()(const std::vector<double>& values) const {
    begin_array(f32, values.size());
    for (const double v : values) put(out, narrow(v));
  }
  void operator()(const std::vector<bool>& values) const {
    begin_array(boolean, values.size());
    for (const bool v : values) put<uint8_t>(out, v ? 1 : 0);
  }
  void operator()(const std::vector<std::string>& values) const {
    begin_array(string, values.size());
    for (const std::string& v : values) put_text(out, v);
  }
  void begin_array(WrittenType type, size_t count) const {
    put<uint32_t>(out, array);
    put<uint32_t>(out, type);
    put<uint64_t>(out, count);
  }
};

void put_tensor_entry(std::string& out, const OutgoingTensor& tensor, size_t offset, const std::string& path) {
  const auto type = ggml_type_of(tensor.dtype);
  check(type.has_value(), "gguf", "{}: tensor {} is {}, which is no type of weights there", path, quote(tensor.name),
        name(tensor.dtype));
  check(tensor.shape.size() <= 4, "gguf", "{}: tensor {} has {} dimensions, expected at most 4", path,
        quote(tensor.name), tensor.shape.size());
  put_text(out, tensor.name);
  put(out, static_cast<uint32_t>(tensor.shape.size()));
  for (size_t i = tensor.shape.size(); i-- > 0;) put(out, static_cast<uint64_t>(tensor.shape[i]));  // innermost first
  put(out, *type);
  put<uint64_t>(out, offset);
}

std::string header_of(const GgufMetadata& metadata, const std::vector<OutgoingTensor>& tensors,
                      const std::string& path) {
  std::string out = "GGUF";
  put<uint32_t>(out, 3);
  put<uint64_t>(out, tensors.size());
  put<uint64_t>(out, metadata.size());
  std::unordered_set<std::string_view> keys, names;
  for (const auto& [key, value] : metadata) {
    check(keys.insert(key).second, "gguf", "{}: the metadata key {} is written twice", path, quote(key));
    put_text(out, key);
    std::visit(ValueWriter{out, path, key}, value);
  }
  size_t offset = 0;
  for (const OutgoingTensor& tensor : tensors) {
    check(names.insert(tensor.name).second, "gguf", "{}: the tensor name {} is taken", path, quote(tensor.name));
    put_tensor_entry(out, tensor, offset, path);
    offset = aligned(offset + tensor.bytes());
  }
  out.resize(aligned(out.size()), '\0');
  return out;
}

}  // namespace

void write_gguf(const std::string& path, const GgufMetadata& metadata, const std::vector<OutgoingTensor>& tensors,
                const std::function<void(const std::string& written)>& verify) {
  const std::string header = header_of(metadata, tensors, path);
  AtomicFile file(path);
  check(!verify || !file.temporary().empty(), "gguf", "{} is no regular file, so what is written cannot be read again",
        path);
  file.write(header);
  for (const OutgoingTensor& tensor : tensors) {
    const Tensor value = tensor.value();
    file.write(value.raw(), value.bytes());
    file.write(std::string(aligned(value.bytes()) - value.bytes(), '\0'));
  }
  if (verify) {
    file.flush();
    verify(file.temporary());
  }
  file.commit();
}

}  // namespace lathe
