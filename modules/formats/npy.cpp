// See npy.h. Layout: magic, version, header length (u16), a Python dictionary padded with spaces and closed by a line
// break so that the data begins at a multiple of 64, data in C order.
#include "formats/npy.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <string_view>

#include "formats/atomic_file.h"
#include "formats/quote.h"

namespace lathe {

static_assert(std::endian::native == std::endian::little, "'<f4' is written as it lies in memory");

void write_npy(const std::string& path, const Tensor& tensor) {
  check(tensor.defined() && tensor.dtype() == DType::f32 && tensor.contiguous(), "npy",
        "{}: expected a contiguous f32 tensor, found {}", path, tensor.defined() ? tensor.describe() : "none");
  std::string shape;
  for (const int64_t dim : tensor.shape()) shape += fmt::format("{}, ", dim);
  if (tensor.rank() > 0) shape.resize(shape.size() - (tensor.rank() == 1 ? 1 : 2));  // "3," is a tuple, "3" is none
  std::string header = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", shape);
  constexpr size_t kPreamble = 10;
  header.resize((kPreamble + header.size() + 1 + 63) / 64 * 64 - kPreamble - 1, ' ');
  header += '\n';

  AtomicFile file(path);
  const char preamble[kPreamble] = {'\x93',
                                    'N',
                                    'U',
                                    'M',
                                    'P',
                                    'Y',
                                    1,
                                    0,
                                    static_cast<char>(header.size() & 0xff),
                                    static_cast<char>(header.size() >> 8)};
  file.write(preamble, sizeof preamble);
  file.write(header);
  file.write(tensor.raw(), tensor.bytes());
  file.commit();
}

namespace {

template <class T>
T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

constexpr std::string_view kIntegerTypes[] = {"<i4", "<i8", "<u2", "<u4"};  // in the order of NpyIntegers::Type
constexpr size_t kIntegerBytes[] = {4, 8, 2, 4};

// What stands behind a key of the header's dictionary, up to the next key or the end.
std::string_view member(std::string_view header, std::string_view key) {
  const size_t begin = header.find(key);
  if (begin == header.npos) return {};
  std::string_view value = header.substr(begin + key.size());
  value = value.substr(value.find_first_not_of(": ") == value.npos ? value.size() : value.find_first_not_of(": "));
  const size_t end = value.starts_with('(') ? value.find(')') + 1 : value.find_first_of(",}");
  return value.substr(0, end);
}

// The dictionary, and in `begin` where the data do.
std::string_view npy_header(std::string_view bytes, size_t* begin) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  if (bytes.size() < 12 || !bytes.starts_with(kMagic) || bytes[6] < 1 || bytes[6] > 3) return {};
  const auto* length = reinterpret_cast<const uint8_t*>(bytes.data()) + 8;
  const size_t preamble = bytes[6] == 1 ? 10 : 12;
  const size_t size = bytes[6] == 1 ? load<uint16_t>(length) : load<uint32_t>(length);
  if (size > bytes.size() - preamble) return {};
  *begin = preamble + size;
  return bytes.substr(preamble, size);
}

}  // namespace

int64_t NpyIntegers::at(int64_t index) const {
  const uint8_t* element = data + static_cast<size_t>(index) * kIntegerBytes[static_cast<size_t>(type)];
  switch (type) {
    case Type::i32: return load<int32_t>(element);
    case Type::i64: return load<int64_t>(element);
    case Type::u16: return load<uint16_t>(element);
    case Type::u32: break;
  }
  return load<uint32_t>(element);
}

NpyIntegers open_npy_integers(const std::string& path) {
  NpyIntegers array{};
  array.file = MappedFile::open(path);
  const std::string_view bytes(reinterpret_cast<const char*>(array.file->bytes().data()), array.file->bytes().size());
  size_t begin = 0;
  const std::string_view header = npy_header(bytes, &begin);
  check(!header.empty(), "npy", "{} is no .npy file, or is cut short in its header", path);
  std::string_view type = member(header, "'descr'"), shape = member(header, "'shape'");
  if (type.size() >= 2) type = type.substr(1, type.size() - 2);
  const auto* known = std::find(std::begin(kIntegerTypes), std::end(kIntegerTypes), type);
  check(known != std::end(kIntegerTypes), "npy",
        "{}: expected int32, int64, uint16 or uint32 (<i4, <i8, <u2, <u4), found {}", path, quote(type));
  array.type = static_cast<NpyIntegers::Type>(known - kIntegerTypes);
  const auto [end, error] = std::from_chars(shape.data() + !shape.empty(), shape.data() + shape.size(), array.size);
  const std::string_view rest(end, static_cast<size_t>(shape.data() + shape.size() - end));
  check(error == std::errc() && (rest == ",)" || rest == ", )") && array.size >= 0, "npy",
        "{}: expected one dimension, found the shape {}", path, quote(shape));
  const size_t there = (bytes.size() - begin) / kIntegerBytes[known - kIntegerTypes];
  check(static_cast<size_t>(array.size) <= there, "npy", "{} is cut short: {} elements of {}", path, there, array.size);
  array.data = array.file->bytes().data() + begin;
  return array;
}

}  // namespace lathe
