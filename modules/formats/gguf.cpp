// See gguf.h. Layout (all little endian): magic, version, number of tensors, number of metadata entries; the entries
// (key, type, value); the tensor table (name, dimensions innermost first, type, offset); padding to the alignment;
// data.
//
// A count is believed only as far as the file is long enough to hold that many of the smallest items, so that nothing
// is allocated on the word of a damaged file.
#include "formats/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "formats/quote.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF values are read as they lie in the file");

// Identifiers, block sizes and block bytes of ggml's types (ggml.h `ggml_type`, ggml-common.h the block structs).
struct GgmlType {
  uint32_t id;
  std::string_view name;
  int64_t block_size, block_bytes;
  std::optional<DType> dtype = std::nullopt;
};

constexpr std::array kGgmlTypes = {
    GgmlType{0, "F32", 1, 4, DType::f32},
    GgmlType{1, "F16", 1, 2, DType::f16},
    GgmlType{2, "Q4_0", 32, 18, DType::q4_0},
    GgmlType{3, "Q4_1", 32, 20, DType::q4_1},
    GgmlType{6, "Q5_0", 32, 22, DType::q5_0},
    GgmlType{7, "Q5_1", 32, 24, DType::q5_1},
    GgmlType{8, "Q8_0", 32, 34, DType::q8_0},
    GgmlType{9, "Q8_1", 32, 36},
    GgmlType{10, "Q2_K", 256, 84, DType::q2_k},
    GgmlType{11, "Q3_K", 256, 110, DType::q3_k},
    GgmlType{12, "Q4_K", 256, 144, DType::q4_k},
    GgmlType{13, "Q5_K", 256, 176, DType::q5_k},
    GgmlType{14, "Q6_K", 256, 210, DType::q6_k},
    GgmlType{15, "Q8_K", 256, 292},
    GgmlType{16, "IQ2_XXS", 256, 66},
    GgmlType{17, "IQ2_XS", 256, 74},
    GgmlType{18, "IQ3_XXS", 256, 98},
    GgmlType{19, "IQ1_S", 256, 50},
    GgmlType{20, "IQ4_NL", 32, 18, DType::iq4_nl},
    GgmlType{21, "IQ3_S", 256, 110},
    GgmlType{22, "IQ2_S", 256, 82},
    GgmlType{23, "IQ4_XS", 256, 136, DType::iq4_xs},
    GgmlType{24, "I8", 1, 1},
    GgmlType{25, "I16", 1, 2},
    GgmlType{26, "I32", 1, 4, DType::i32},
    GgmlType{27, "I64", 1, 8},
    GgmlType{28, "F64", 1, 8, DType::f64},
    GgmlType{29, "IQ1_M", 256, 56},
    GgmlType{30, "BF16", 1, 2, DType::bf16},
    GgmlType{34, "TQ1_0", 256, 54},
    GgmlType{35, "TQ2_0", 256, 66},
    GgmlType{39, "MXFP4", 32, 17},
};

const GgmlType* find_ggml_type(uint32_t id) {
  const auto found = std::find_if(kGgmlTypes.begin(), kGgmlTypes.end(), [&](const auto& t) { return t.id == id; });
  return found == kGgmlTypes.end() ? nullptr : &*found;
}

// Metadata value types, in the order of their identifiers.
enum class ValueType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
constexpr uint32_t kValueTypes = 13;

// Walks over the file; every read is checked against its end.
class Cursor {
 public:
  explicit Cursor(const MappedFile& file) : path_(file.path()), bytes_(file.bytes()) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }

  const uint8_t* take(size_t count, const char* what) {
    check(count <= left(), "gguf", "{}: the file ends inside {}: expected {} bytes at offset {}, found {}", path_, what,
          count, position_, left());
    const uint8_t* begin = bytes_.data() + position_;
    position_ += count;
    return begin;
  }
  template <class T>
  T number(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }
  std::string text(const char* what) {
    const auto length = number<uint64_t>(what);
    check(length <= left(), "gguf", "{}: {} at offset {} claims a length of {} bytes, {} are left", path_, what,
          position_, length, left());
    return {reinterpret_cast<const char*>(take(length, what)), length};
  }
  // A count of items of at least `smallest` bytes each, no greater than the rest of the file can hold.
  size_t count(size_t smallest, const char* what) {
    const auto n = number<uint64_t>(what);
    check(n <= left() / smallest, "gguf", "{}: claims {} {}, at most {} fit into the {} bytes left", path_, n, what,
          left() / smallest, left());
    return n;
  }

 private:
  const std::string& path_;
  std::span<const uint8_t> bytes_;
  size_t position_ = 0;
};

// Reads the metadata of one file.
class MetadataReader {
 public:
  MetadataReader(Cursor& cursor, const std::string& path) : cursor_(cursor), path_(path) {}

  GgufValue value(const std::string& key) {
    const ValueType type = value_type(key);
    return type == ValueType::array ? array(key) : scalar(type, key);
  }

 private:
  ValueType value_type(const std::string& key) {
    const auto id = cursor_.number<uint32_t>("the type of a metadata value");
    check(id < kValueTypes, "gguf", "{}: metadata {} has value type {}, expected 0 to {}", path_, quote(key), id,
          kValueTypes - 1);
    return static_cast<ValueType>(id);
  }

  template <class Narrow>
  int64_t integer(const std::string& key) {
    const auto value = cursor_.number<Narrow>("a metadata value");
    if constexpr (std::is_same_v<Narrow, uint64_t>)
      check(value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), "gguf",
            "{}: metadata {} is {}, expected at most 2^63 - 1", path_, quote(key), value);
    return static_cast<int64_t>(value);
  }
  bool boolean(const std::string& key) {
    const auto value = cursor_.number<uint8_t>("a metadata value");
    check(value <= 1, "gguf", "{}: metadata {} is a boolean of value {}, expected 0 or 1", path_, quote(key), value);
    return value != 0;
  }

  GgufValue scalar(ValueType type, const std::string& key) {
    switch (type) {
      case ValueType::u8: return integer<uint8_t>(key);
      case ValueType::i8: return integer<int8_t>(key);
      case ValueType::u16: return integer<uint16_t>(key);
      case ValueType::i16: return integer<int16_t>(key);
      case ValueType::u32: return integer<uint32_t>(key);
      case ValueType::i32: return integer<int32_t>(key);
      case ValueType::u64: return integer<uint64_t>(key);
      case ValueType::i64: return integer<int64_t>(key);
      case ValueType::f32: return static_cast<double>(cursor_.number<float>("a metadata value"));
      case ValueType::f64: return cursor_.number<double>("a metadata value");
      case ValueType::boolean: return boolean(key);
      default: return cursor_.text("a metadata string");
    }
  }

  GgufValue array(const std::string& key) {
    const ValueType type = value_type(key);
    switch (type) {
      case ValueType::u8: return integers<uint8_t>(key);
      case ValueType::i8: return integers<int8_t>(key);
      case ValueType::u16: return integers<uint16_t>(key);
      case ValueType::i16: return integers<int16_t>(key);
      case ValueType::u32: return integers<uint32_t>(key);
      case ValueType::i32: return integers<int32_t>(key);
      case ValueType::u64: return integers<uint64_t>(key);
      case ValueType::i64: return integers<int64_t>(key);
      case ValueType::f32: return items<double>(4, [&] { return cursor_.number<float>("a metadata array"); });
      case ValueType::f64: return items<double>(8, [&] { return cursor_.number<double>("a metadata array"); });
      case ValueType::boolean: return items<bool>(1, [&] { return boolean(key); });
      case ValueType::string: return items<std::string>(8, [&] { return cursor_.text("a metadata string"); });
      case ValueType::array: break;
    }
    throw Error(fmt::format("gguf: {}: metadata {} is an array of arrays, which is not supported", path_, quote(key)));
  }
  template <class Narrow>
  GgufValue integers(const std::string& key) {
    return items<int64_t>(sizeof(Narrow), [&] { return integer<Narrow>(key); });
  }
  template <class T, class Read>
  GgufValue items(size_t smallest, Read&& read) {
    const size_t count = cursor_.count(smallest, "array elements");
    std::vector<T> values;
    values.reserve(count);
    for (size_t i = 0; i < count; ++i) values.push_back(read());
    return values;
  }

  Cursor& cursor_;
  const std::string& path_;
};

// A tensor's entry in the table. `offset` is within the data section; `bytes` stays 0 for a type that is not known.
struct TensorEntry {
  StoredTensor tensor;
  uint64_t offset = 0;
};

void set_type_and_bytes(StoredTensor& tensor, uint32_t type_id, const std::string& path) {
  int64_t elements = 1;
  for (const int64_t dim : tensor.shape)
    check(!__builtin_mul_overflow(elements, dim, &elements), "gguf",
          "{}: tensor {}: the product of dimensions {} overflows", path, quote(tensor.name),
          fmt::join(tensor.shape, " x "));
  const GgmlType* type = find_ggml_type(type_id);
  if (!type) {
    tensor.type_name = fmt::format("ggml type {}", type_id);
    return;
  }
  tensor.type_name = type->name;
  tensor.dtype = type->dtype;
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  check(row % type->block_size == 0, "gguf", "{}: tensor {}: a row of {} elements is no multiple of {}'s block of {}",
        path, quote(tensor.name), row, type->name, type->block_size);
  int64_t bytes = 0;
  check(!__builtin_mul_overflow(elements / type->block_size, type->block_bytes, &bytes), "gguf",
        "{}: tensor {}: the size of {} {} elements overflows", path, quote(tensor.name), elements, type->name);
  tensor.bytes = static_cast<size_t>(bytes);
}

TensorEntry read_tensor_entry(Cursor& cursor, const std::string& path) {
  TensorEntry entry;
  StoredTensor& tensor = entry.tensor;
  tensor.name = cursor.text("a tensor name");
  const auto rank = cursor.number<uint32_t>("the tensor table");
  check(rank <= 4, "gguf", "{}: tensor {} has {} dimensions, expected at most 4", path, quote(tensor.name), rank);
  for (uint32_t i = 0; i < rank; ++i) {
    const auto dim = cursor.number<uint64_t>("the tensor table");
    check(dim <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()), "gguf",
          "{}: tensor {} has a dimension of {}, expected at most 2^63 - 1", path, quote(tensor.name), dim);
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(dim));
  }
  set_type_and_bytes(tensor, cursor.number<uint32_t>("the tensor table"), path);
  entry.offset = cursor.number<uint64_t>("the tensor table");
  return entry;
}

// Where the data section begins: the end of the tensor table, rounded up to `general.alignment`.
size_t data_begin(const GgufFile& gguf, const Cursor& cursor) {
  const int64_t alignment = gguf.get<int64_t>("general.alignment").value_or(32);
  check(alignment > 0 && alignment % 8 == 0 && alignment <= (1 << 24), "gguf",
        "{}: general.alignment is {}, expected a multiple of 8 up to 2^24", gguf.path(), alignment);
  const auto step = static_cast<size_t>(alignment);
  return (cursor.position() + step - 1) / step * step;
}

// Places the tensors in the data section: inside the file, aligned, none over another.
void place_tensors(std::vector<TensorEntry>& entries, const std::shared_ptr<const MappedFile>& file, size_t begin) {
  const std::string& path = file->path();
  const size_t size = file->bytes().size();
  check(entries.empty() || begin <= size, "gguf",
        "{}: the file ends before its tensor data: expected it at offset {}, found {} bytes", path, begin, size);
  for (TensorEntry& entry : entries) {
    StoredTensor& tensor = entry.tensor;
    check(entry.offset <= size - begin && tensor.bytes <= size - begin - entry.offset, "gguf",
          "{}: tensor {} ({} bytes at offset {} of the data) reaches beyond the file: the data holds {} bytes", path,
          quote(tensor.name), tensor.bytes, entry.offset, size - begin);
    check(entry.offset % 8 == 0, "gguf", "{}: tensor {} begins at offset {} of the data, expected a multiple of 8",
          path, quote(tensor.name), entry.offset);
    tensor.data = file->bytes().data() + begin + entry.offset;
    tensor.file = file;
  }
  std::vector<const TensorEntry*> by_offset;
  for (const TensorEntry& entry : entries)
    if (entry.tensor.bytes > 0) by_offset.push_back(&entry);
  std::sort(by_offset.begin(), by_offset.end(), [](auto* a, auto* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < by_offset.size(); ++i) {
    const TensorEntry &a = *by_offset[i - 1], &b = *by_offset[i];
    check(a.offset + a.tensor.bytes <= b.offset, "gguf", "{}: tensors {} and {} overlap at offset {} of the data", path,
          quote(a.tensor.name), quote(b.tensor.name), b.offset);
  }
}

void check_version(uint32_t version, const std::string& path) {
  if (version == 2 || version == 3) return;
  const uint32_t swapped = version >> 24 | (version >> 8 & 0xff00u) | (version << 8 & 0xff0000u) | version << 24;
  const bool big_endian = swapped == 2 || swapped == 3;
  throw Error(fmt::format("gguf: {}: version {} is not supported, expected 2 or 3", path, version),
              big_endian ? "the file was written big endian; convert it on the machine that wrote it" : "");
}

template <class T>
constexpr std::string_view kValueName = "";
template <>
constexpr std::string_view kValueName<int64_t> = "an integer";
template <>
constexpr std::string_view kValueName<double> = "a number";
template <>
constexpr std::string_view kValueName<bool> = "a boolean";
template <>
constexpr std::string_view kValueName<std::string> = "a string";
template <>
constexpr std::string_view kValueName<std::vector<int64_t>> = "an array of integers";
template <>
constexpr std::string_view kValueName<std::vector<double>> = "an array of numbers";
template <>
constexpr std::string_view kValueName<std::vector<bool>> = "an array of booleans";
template <>
constexpr std::string_view kValueName<std::vector<std::string>> = "an array of strings";

}  // namespace

std::optional<uint32_t> ggml_type_of(DType dtype) {
  if (dtype == DType::f64 || dtype == DType::i32) return std::nullopt;
  const auto found =
      std::find_if(kGgmlTypes.begin(), kGgmlTypes.end(), [&](const GgmlType& t) { return t.dtype == dtype; });
  return found == kGgmlTypes.end() ? std::nullopt : std::optional(found->id);
}

std::shared_ptr<GgufFile> GgufFile::open_part(const std::string& path) {
  std::shared_ptr<GgufFile> gguf(new GgufFile);
  const auto file = MappedFile::open(path);
  gguf->files_ = {file};
  Cursor cursor(*file);
  check(std::memcmp(cursor.take(4, "the magic"), "GGUF", 4) == 0, "gguf",
        "{}: the file does not begin with the magic 'GGUF'", path);
  const auto version = cursor.number<uint32_t>("the header");
  check_version(version, path);
  gguf->version_ = static_cast<int>(version);

  const size_t tensors = cursor.count(8 + 4 + 4 + 8, "tensors");
  const size_t entries = cursor.count(8 + 4 + 1, "metadata entries");
  MetadataReader reader(cursor, gguf->path());
  for (size_t i = 0; i < entries; ++i) {
    std::string key = cursor.text("a metadata key");
    GgufValue value = reader.value(key);
    const auto [at, added] = gguf->metadata_.emplace(std::move(key), std::move(value));
    check(added, "gguf", "{}: metadata {} appears twice", path, quote(at->first));
  }

  std::vector<TensorEntry> table;
  table.reserve(tensors);
  std::unordered_set<std::string_view> names;
  for (size_t i = 0; i < tensors; ++i) {
    table.push_back(read_tensor_entry(cursor, path));
    check(names.insert(table.back().tensor.name).second, "gguf", "{}: tensor {} appears twice", path,
          quote(table.back().tensor.name));
  }
  place_tensors(table, file, data_begin(*gguf, cursor));
  gguf->tensors_.reserve(tensors);
  for (TensorEntry& entry : table) gguf->tensors_.push_back(std::move(entry.tensor));
  return gguf;
}

template <class T>
std::optional<T> GgufFile::get(std::string_view key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::nullopt;
  const GgufValue& value = found->second;
  if (const T* same = std::get_if<T>(&value)) return *same;
  if constexpr (std::is_same_v<T, double>)
    if (const int64_t* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
  const std::string_view actual =
      std::visit([](const auto& v) { return kValueName<std::decay_t<decltype(v)>>; }, value);
  throw Error(fmt::format("gguf: {}: metadata {} is {}, expected {}", path(), quote(key), actual, kValueName<T>));
}

template <class T>
T GgufFile::require(std::string_view key) const {
  std::optional<T> value = get<T>(key);
  check(value.has_value(), "gguf", "{}: metadata {} is missing, expected {}", path(), quote(key), kValueName<T>);
  return *std::move(value);
}

#define LATHE_INSTANTIATE(T)                                          \
  template std::optional<T> GgufFile::get<T>(std::string_view) const; \
  template T GgufFile::require<T>(std::string_view) const;
LATHE_INSTANTIATE(int64_t)
LATHE_INSTANTIATE(double)
LATHE_INSTANTIATE(bool)
LATHE_INSTANTIATE(std::string)
LATHE_INSTANTIATE(std::vector<int64_t>)
LATHE_INSTANTIATE(std::vector<double>)
LATHE_INSTANTIATE(std::vector<bool>)
LATHE_INSTANTIATE(std::vector<std::string>)
#undef LATHE_INSTANTIATE

}  // namespace lathe
