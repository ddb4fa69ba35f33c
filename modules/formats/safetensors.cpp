// See safetensors.h. Layout: header length (u64, little endian), header (JSON, padded with spaces), data.
//
// Header: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..., "__metadata__": {text: text}}.
#include "formats/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>
#include <unordered_set>

#include "formats/atomic_file.h"
#include "formats/quote.h"
#include "formats/shards.h"
#include "formats/strict_json.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors values are read as they lie in the file");

// The reference implementation refuses longer headers, too.
constexpr uint64_t kMaxHeaderBytes = 100'000'000;

struct SafetensorsType {
  std::string_view name;
  int64_t bytes;
  std::optional<DType> dtype = std::nullopt;
};
// Types of less than a byte (F4, F6_E2M3, ...) are not listed: like any unknown name they are kept by name, and the
// header's offsets are believed for their size.
constexpr std::array kTypes = {SafetensorsType{"F32", 4, DType::f32},
                               SafetensorsType{"F64", 8, DType::f64},
                               SafetensorsType{"BF16", 2, DType::bf16},
                               SafetensorsType{"F16", 2, DType::f16},
                               SafetensorsType{"I32", 4, DType::i32},
                               SafetensorsType{"BOOL", 1},
                               SafetensorsType{"U8", 1},
                               SafetensorsType{"I8", 1},
                               SafetensorsType{"U16", 2},
                               SafetensorsType{"I16", 2},
                               SafetensorsType{"U32", 4},
                               SafetensorsType{"U64", 8},
                               SafetensorsType{"I64", 8},
                               SafetensorsType{"C64", 8},
                               SafetensorsType{"F8_E4M3", 1},
                               SafetensorsType{"F8_E5M2", 1},
                               SafetensorsType{"F8_E8M0", 1}};

// A header entry's member as a non-negative integer.
int64_t size_value(const json& value, const std::string& path, const std::string& name, const char* what) {
  check(value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()},
        "safetensors", "{}: tensor {}: {} holds {}, expected an integer from 0 to 2^63 - 1", path, quote(name), what,
        quote(value.dump()));
  return value.get<int64_t>();
}

const json& member(const json& entry, const char* key, json::value_t type, const std::string& path,
                   const std::string& name) {
  check(entry.is_object(), "safetensors", "{}: tensor {} is described by {}, expected an object", path, quote(name),
        entry.type_name());
  const auto found = entry.find(key);
  check(found != entry.end() && found->type() == type, "safetensors", "{}: tensor {}: '{}' is {}, expected {}", path,
        quote(name), key, found == entry.end() ? "missing" : found->type_name(), json(type).type_name());
  return *found;
}

// The header's bytes, their number checked.
std::string_view header_text(const MappedFile& file) {
  const auto bytes = file.bytes();
  check(bytes.size() >= 8, "safetensors", "{} has {} bytes, expected at least 8", file.path(), bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  check(length <= bytes.size() - 8, "safetensors", "{}: the header claims {} bytes, the file has {} after its length",
        file.path(), length, bytes.size() - 8);
  check(length <= kMaxHeaderBytes, "safetensors", "{}: the header claims {} bytes, expected at most {}", file.path(),
        length, kMaxHeaderBytes);
  return {reinterpret_cast<const char*>(bytes.data()) + 8, length};
}

StoredTensor read_entry(const std::string& name, const json& entry, const std::shared_ptr<const MappedFile>& file,
                        size_t data_begin) {
  const std::string& path = file->path();
  StoredTensor tensor;
  tensor.name = name;
  tensor.file = file;
  tensor.type_name = member(entry, "dtype", json::value_t::string, path, name).get<std::string>();
  int64_t elements = 1;
  for (const json& value : member(entry, "shape", json::value_t::array, path, name)) {
    tensor.shape.push_back(size_value(value, path, name, "'shape'"));
    check(!__builtin_mul_overflow(elements, tensor.shape.back(), &elements), "safetensors",
          "{}: tensor {}: the product of dimensions {} overflows", path, quote(name), fmt::join(tensor.shape, " x "));
  }
  const json& offsets = member(entry, "data_offsets", json::value_t::array, path, name);
  check(offsets.size() == 2, "safetensors", "{}: tensor {}: 'data_offsets' holds {} values, expected 2", path,
        quote(name), offsets.size());
  const int64_t begin = size_value(offsets[0], path, name, "'data_offsets'");
  const int64_t end = size_value(offsets[1], path, name, "'data_offsets'");
  const size_t available = file->bytes().size() - data_begin;
  check(begin <= end && static_cast<size_t>(end) <= available, "safetensors",
        "{}: tensor {} has the offsets {} to {}, expected a range within the {} bytes of data", path, quote(name),
        begin, end, available);
  tensor.bytes = static_cast<size_t>(end - begin);
  tensor.data = file->bytes().data() + data_begin + begin;

  const auto type =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& t) { return t.name == tensor.type_name; });
  if (type == kTypes.end()) return tensor;
  tensor.dtype = type->dtype;
  int64_t expected = 0;
  check(!__builtin_mul_overflow(elements, type->bytes, &expected) && expected == end - begin, "safetensors",
        "{}: tensor {} of shape ({}) and type {} has the offsets {} to {}, which hold {} bytes", path, quote(name),
        fmt::join(tensor.shape, ", "), tensor.type_name, begin, end, end - begin);
  return tensor;
}

// In the order of their data; every byte belongs to exactly one tensor.
void sort_and_check_layout(std::vector<StoredTensor>& tensors, const MappedFile& file, const uint8_t* data) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::tie(a.data, a.bytes, a.name) < std::tie(b.data, b.bytes, b.name);
  });
  const uint8_t* end = data;
  for (const StoredTensor& tensor : tensors) {
    check(tensor.data == end, "safetensors", "{}: tensor {} begins at byte {} of the data, {} byte {}", file.path(),
          quote(tensor.name), tensor.data - data,
          tensor.data < end ? "inside the tensor that ends at" : "after a hole from", end - data);
    end += tensor.bytes;
  }
  const uint8_t* file_end = file.bytes().data() + file.bytes().size();
  check(end == file_end, "safetensors", "{}: the tensors end at byte {} of the data, the file at {}", file.path(),
        end - data, file_end - data);
}

std::string_view type_name_of(DType dtype) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& t) { return t.dtype == dtype; });
  return found == kTypes.end() ? std::string_view{} : found->name;
}

std::string header_of(const std::vector<OutgoingTensor>& tensors, const std::map<std::string, std::string>& metadata,
                      const std::string& path) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::unordered_set<std::string_view> names = {"__metadata__"};
  size_t offset = 0;
  for (const OutgoingTensor& tensor : tensors) {
    const std::string_view type = type_name_of(tensor.dtype);
    check(!type.empty(), "safetensors", "{}: tensor {} is of type {}, which the format does not have", path,
          quote(tensor.name), lathe::name(tensor.dtype));
    check(names.insert(tensor.name).second, "safetensors", "{}: the tensor name {} is taken", path, quote(tensor.name));
    header.push_back(
        {tensor.name, {{"dtype", type}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes()}}}});
    offset += tensor.bytes();
  }
  try {
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data is aligned
    return text;
  } catch (const json::exception&) {
    throw Error(fmt::format("safetensors: {}: a tensor's name or the metadata is not valid UTF-8", path));
  }
}

}  // namespace

std::vector<StoredTensor> read_safetensors(const std::string& path, std::map<std::string, std::string>* metadata) {
  const auto file = MappedFile::open(path);
  const std::string_view text = header_text(*file);
  const json header = parse_strict_json(text, path, 8);
  check(header.is_object(), "safetensors", "{}: the header is {}, expected an object", path, header.type_name());
  const size_t data_begin = 8 + text.size();

  std::vector<StoredTensor> tensors;
  tensors.reserve(header.size());
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      tensors.push_back(read_entry(name, entry, file, data_begin));
      continue;
    }
    if (entry.is_null()) continue;  // the reference's reader takes it for none
    check(entry.is_object(), "safetensors", "{}: '__metadata__' is {}, expected an object", path, entry.type_name());
    for (const auto& [key, value] : entry.items()) {
      check(value.is_string(), "safetensors", "{}: '__metadata__' {} is {}, expected a string", path, quote(key),
            value.type_name());
      if (metadata) (*metadata)[key] = value.get<std::string>();
    }
  }
  sort_and_check_layout(tensors, *file, file->bytes().data() + data_begin);
  return tensors;
}

std::vector<StoredTensor> read_sharded_safetensors(const std::string& index_path) {
  return read_shards(index_path, [](const std::string& path) { return read_safetensors(path); });
}

void write_safetensors(const std::string& path, std::vector<OutgoingTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  // Wide elements first, as the reference writer does: every tensor is then aligned to its element.
  std::stable_sort(tensors.begin(), tensors.end(), [](const OutgoingTensor& a, const OutgoingTensor& b) {
    return info(a.dtype).block_bytes > info(b.dtype).block_bytes;
  });
  const std::string header = header_of(tensors, metadata, path);
  AtomicFile file(path);
  const uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
  for (const OutgoingTensor& tensor : tensors) {
    const Tensor value = tensor.value();
    file.write(value.raw(), value.bytes());
  }
  file.commit();
}

void write_safetensors(const std::string& path, const std::vector<std::pair<std::string, Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<OutgoingTensor> outgoing;
  outgoing.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    check(tensor.defined() && tensor.contiguous(), "safetensors", "{}: tensor {} is not contiguous: {}", path,
          quote(name), tensor.defined() ? tensor.describe() : "undefined");
    outgoing.push_back(
        {name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, [value = tensor] { return value; }});
  }
  write_safetensors(path, std::move(outgoing), metadata);
}

}  // namespace lathe
