// See pytorch_file.h. (Sources: torch/serialization.py and torch/_utils.py of PyTorch 2.)
//
// Zip form: <name>/data.pkl, <name>/byteorder, and <name>/data/<key>, the bytes of each storage.
// The form before: five pickles (a magic number, a version, a description of the machine, the object, the storages'
// keys), then for each key the number of elements (u64) and the elements.
// In both a tensor is the call _rebuild_tensor_v2(storage, offset, shape, strides, ...), and a storage the persistent
// identifier ("storage", type, key, device, elements).
#include "formats/pytorch_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "formats/pickle.h"
#include "formats/quote.h"
#include "formats/shards.h"
#include "formats/zip.h"
#include "tensor/errors.h"

namespace lathe {
namespace {

using Kind = PickleValue::Kind;
using Bytes = std::span<const uint8_t>;

struct StorageType {
  std::string_view global, type_name;
  int64_t bytes;
  std::optional<DType> dtype;
};
constexpr std::array kStorageTypes = {
    StorageType{"FloatStorage", "F32", 4, DType::f32},   StorageType{"DoubleStorage", "F64", 8, DType::f64},
    StorageType{"HalfStorage", "F16", 2, DType::f16},    StorageType{"BFloat16Storage", "BF16", 2, DType::bf16},
    StorageType{"IntStorage", "I32", 4, DType::i32},     StorageType{"LongStorage", "I64", 8, std::nullopt},
    StorageType{"ShortStorage", "I16", 2, std::nullopt}, StorageType{"CharStorage", "I8", 1, std::nullopt},
    StorageType{"ByteStorage", "U8", 1, std::nullopt},   StorageType{"BoolStorage", "BOOL", 1, std::nullopt},
};

// The functions first, then the storage types in the order of kStorageTypes.
enum Function : int64_t { ordered_dict, rebuild_tensor, rebuild_tensor_v2, rebuild_parameter, functions };
const std::vector<PickleGlobal>& allowed_globals() {
  static const std::vector<PickleGlobal> globals = [] {
    std::vector<PickleGlobal> list = {{"collections", "OrderedDict", true},
                                      {"torch._utils", "_rebuild_tensor", true},
                                      {"torch._utils", "_rebuild_tensor_v2", true},
                                      {"torch._utils", "_rebuild_parameter", true}};
    for (const StorageType& type : kStorageTypes) list.push_back({"torch", type.global, false});
    return list;
  }();
  return globals;
}

struct Storage {
  const StorageType* type = nullptr;
  std::string_view key;
  int64_t elements = 0;
};

// Reads the values of one pickle as what they must be.
class Graph {
 public:
  Graph(const Pickle& pickle, const std::string& path) : pickle_(pickle), path_(path) {}

  template <class... Args>
  void require(bool condition, std::string_view name, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) [[unlikely]]
      throw Error(
          fmt::format("pytorch: {}: {}: {}", path_, quote(name), fmt::format(format, std::forward<Args>(args)...)));
  }
  const PickleValue& at(uint32_t number) const { return pickle_.at(number); }
  const std::string& path() const { return path_; }

  bool is_call(const PickleValue& value, Function function) const {
    return value.kind == Kind::call && at(value.items[0]).integer == function;
  }
  const std::vector<uint32_t>& arguments(const PickleValue& call, size_t at_least, std::string_view name) const {
    const std::vector<uint32_t>& items = at(call.items[1]).items;
    require(items.size() >= at_least, name, "a call with {} arguments, expected at least {}", items.size(), at_least);
    return items;
  }
  int64_t size(uint32_t number, std::string_view name, const char* what) const {
    const PickleValue& value = at(number);
    require(value.kind == Kind::integer && value.integer >= 0, name, "{} is not a number from 0", what);
    return value.integer;
  }
  std::vector<int64_t> sizes(uint32_t number, std::string_view name, const char* what) const {
    constexpr size_t kMostDimensions = 8;  // tensors may share one tuple: what is copied for each must be small
    require(at(number).kind == Kind::tuple && at(number).items.size() <= kMostDimensions, name,
            "{} is no tuple of at most {} numbers", what, kMostDimensions);
    std::vector<int64_t> list;
    for (const uint32_t item : at(number).items) list.push_back(size(item, name, what));
    return list;
  }
  // Keys and values of a dictionary, plain or ordered; empty where `value` is none.
  std::optional<std::vector<std::pair<uint32_t, uint32_t>>> entries(const PickleValue& value) const {
    std::vector<std::pair<uint32_t, uint32_t>> list;
    const bool ordered = is_call(value, ordered_dict);
    if (!ordered && value.kind != Kind::dict) return std::nullopt;
    // Python 2 hands an ordered dictionary's items to its call, as a list of lists.
    if (ordered && at(value.items[1]).items.size() == 1)
      for (const uint32_t pair : at(at(value.items[1]).items[0]).items)
        if (at(pair).items.size() == 2) list.emplace_back(at(pair).items[0], at(pair).items[1]);
    for (size_t i = ordered ? 2 : 0; i + 1 < value.items.size(); i += 2)
      list.emplace_back(value.items[i], value.items[i + 1]);
    return list;
  }

  Storage storage(uint32_t number, std::string_view name) const {
    const PickleValue& value = at(number);
    require(value.kind == Kind::persistent, name, "its storage is no reference to one");
    const std::vector<uint32_t>& id = at(value.items[0]).items;
    require(id.size() >= 5 && at(id[0]).text == "storage" && at(id[1]).kind == Kind::global &&
                at(id[1]).integer >= functions && at(id[2]).kind == Kind::text,
            name, "its storage is described otherwise than by a type, a key, a device and a size");
    require(id.size() == 5 || at(id[5]).kind == Kind::none, name,
            "its storage is a view of another, which is not read");
    return {&kStorageTypes[static_cast<size_t>(at(id[1]).integer - functions)], at(id[2]).text,
            size(id[4], name, "the size of its storage")};
  }

 private:
  const Pickle& pickle_;
  const std::string& path_;
};

// Strides of dimensions of size 1 say nothing, and none do where there is no element.
bool is_contiguous(const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

// One tensor, and where in its storage it begins; its place in the file is not known yet.
struct PickledTensor {
  StoredTensor tensor;
  Storage storage;
  int64_t offset = 0;
};

PickledTensor read_tensor(const Graph& g, const PickleValue& value, std::string_view name) {
  g.require(g.is_call(value, rebuild_tensor) || g.is_call(value, rebuild_tensor_v2), name,
            "the value is no tensor; expected a dictionary of tensors alone, a state_dict");
  const std::vector<uint32_t>& arguments = g.arguments(value, 4, name);
  PickledTensor entry;
  entry.storage = g.storage(arguments[0], name);
  entry.offset = g.size(arguments[1], name, "its offset");
  StoredTensor& tensor = entry.tensor;
  tensor.name = name;
  tensor.dtype = entry.storage.type->dtype;
  tensor.type_name = entry.storage.type->type_name;
  tensor.shape = g.sizes(arguments[2], name, "its shape");
  const std::vector<int64_t> strides = g.sizes(arguments[3], name, "its strides");
  g.require(tensor.shape.size() == strides.size(), name, "{} dimensions and {} strides", tensor.shape.size(),
            strides.size());
  int64_t elements = 1, bytes = 0;
  for (const int64_t dim : tensor.shape)
    g.require(!__builtin_mul_overflow(elements, dim, &elements), name, "the product of dimensions {} overflows",
              fmt::join(tensor.shape, " x "));
  g.require(elements <= entry.storage.elements && entry.offset <= entry.storage.elements - elements &&
                !__builtin_mul_overflow(elements, entry.storage.type->bytes, &bytes),
            name, "{} elements from {} on reach beyond its storage of {}", elements, entry.offset,
            entry.storage.elements);
  if (elements > 0 && !is_contiguous(tensor.shape, strides))
    throw Error(fmt::format("pytorch: {}: {} has the shape ({}) and the strides ({}), expected a contiguous tensor",
                            g.path(), quote(name), fmt::join(tensor.shape, ", "), fmt::join(strides, ", ")),
                "save its .contiguous(), best as safetensors");
  tensor.bytes = static_cast<size_t>(bytes);
  return entry;
}

std::vector<PickledTensor> read_entries(const Pickle& pickle, const std::string& path) {
  const Graph g(pickle, path);
  const auto root = g.entries(pickle.root());
  check(root.has_value(), "pytorch", "{}: the file holds no dictionary of tensors (a state_dict)", path);
  std::vector<PickledTensor> entries;
  std::unordered_set<std::string_view> names;
  for (const auto& [key, number] : *root) {
    check(g.at(key).kind == Kind::text, "pytorch", "{}: a key of the dictionary is no text", path);
    const std::string_view name = g.at(key).text;
    g.require(names.insert(name).second, name, "the tensor appears twice");
    const PickleValue* value = &g.at(number);
    if (g.is_call(*value, rebuild_parameter)) value = &g.at(g.arguments(*value, 1, name)[0]);
    entries.push_back(read_tensor(g, *value, name));
  }
  return entries;
}

// Puts the tensors where their storages lie in the file.
std::vector<StoredTensor> place(std::vector<PickledTensor> entries,
                                const std::unordered_map<std::string_view, Bytes>& storages,
                                const std::shared_ptr<const MappedFile>& file) {
  std::vector<StoredTensor> tensors;
  for (PickledTensor& e : entries) {
    const auto found = storages.find(e.storage.key);
    check(found != storages.end(), "pytorch", "{}: {}: its storage {} is missing", file->path(), quote(e.tensor.name),
          quote(e.storage.key));
    const auto size = static_cast<size_t>(e.storage.type->bytes);
    check(static_cast<size_t>(e.storage.elements) <= found->second.size() / size, "pytorch",
          "{}: {}: its storage {} has {} bytes, expected {} elements of {}", file->path(), quote(e.tensor.name),
          quote(e.storage.key), found->second.size(), e.storage.elements, e.storage.type->type_name);
    e.tensor.data = found->second.data() + static_cast<size_t>(e.offset) * size;
    e.tensor.file = file;
    tensors.push_back(std::move(e.tensor));
  }
  return tensors;
}

std::vector<StoredTensor> read_zip_form(const std::shared_ptr<const MappedFile>& file) {
  const std::string& path = file->path();
  const std::vector<ZipEntry> archive = read_zip(*file);
  constexpr std::string_view kPickle = "/data.pkl";
  const ZipEntry* pickle = nullptr;
  for (const ZipEntry& entry : archive) {
    if (!entry.name.ends_with(kPickle)) continue;
    check(pickle == nullptr, "pytorch", "{}: the archive has two files data.pkl", path);
    pickle = &entry;
  }
  check(pickle != nullptr, "pytorch", "{}: the archive has no data.pkl: torch.save did not write it", path);
  const std::string folder = pickle->name.substr(0, pickle->name.size() - kPickle.size() + 1);
  std::unordered_map<std::string_view, Bytes> storages;
  for (const ZipEntry& entry : archive) {
    const std::string_view name = entry.name;
    if (name.starts_with(folder + "data/")) storages.emplace(name.substr(folder.size() + 5), entry.bytes);
    if (name == folder + "byteorder")
      check(std::string_view(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size()) == "little",
            "pytorch", "{}: its values are big endian, expected little", path);
    check(name != folder + "constants.pkl", "pytorch", "{}: a TorchScript program, expected a state_dict", path);
  }
  return place(read_entries(Pickle(pickle->bytes, allowed_globals(), path), path), storages, file);
}

void check_machine(const Pickle& machine, const std::string& path) {
  const Graph g(machine, path);
  for (const auto& [key, value] : g.entries(machine.root()).value_or(std::vector<std::pair<uint32_t, uint32_t>>()))
    check(g.at(key).text != "little_endian" || g.at(value).integer == 1, "pytorch",
          "{}: its values are big endian, expected little", path);
}

// The magic number 0x1950a86a20f9469cfc6c as a pickle, without the protocol before it.
constexpr std::array<uint8_t, 13> kMagic = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9,
                                            0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};

bool has_magic(const MappedFile& file) {
  const auto bytes = file.bytes();
  return bytes.size() > 2 + kMagic.size() && bytes[0] == 0x80 &&
         std::equal(kMagic.begin(), kMagic.end(), bytes.begin() + 2);
}

std::vector<StoredTensor> read_stream_form(const std::shared_ptr<const MappedFile>& file) {
  const std::string& path = file->path();
  Bytes rest = file->bytes().subspan(2 + kMagic.size());
  const auto next = [&] {
    Pickle pickle(rest, allowed_globals(), path);
    rest = rest.subspan(pickle.size());
    return pickle;
  };
  const Pickle version = next();
  check(version.root().integer == 1001, "pytorch", "{}: version {} of the form, expected 1001", path,
        version.root().integer);
  check_machine(next(), path);
  const Pickle object = next();  // texts of the entries lie in the file, not in the pickle
  const std::vector<PickledTensor> entries = read_entries(object, path);

  std::unordered_map<std::string_view, int64_t> element_bytes;
  for (const PickledTensor& entry : entries) element_bytes.emplace(entry.storage.key, entry.storage.type->bytes);
  std::unordered_map<std::string_view, Bytes> storages;
  const Pickle keys = next();
  for (const uint32_t number : keys.root().items) {
    const std::string_view key = keys.at(number).text;
    const auto known = element_bytes.find(key);
    check(known != element_bytes.end(), "pytorch", "{}: the storage {} belongs to no tensor", path, quote(key));
    uint64_t elements = 0;
    check(rest.size() >= 8, "pytorch", "{}: the file ends before the storage {}", path, quote(key));
    std::memcpy(&elements, rest.data(), 8);
    rest = rest.subspan(8);
    const auto size = static_cast<size_t>(known->second);
    check(elements <= rest.size() / size, "pytorch",
          "{}: the storage {} claims {} elements of {} bytes, the file has "
          "{} bytes left",
          path, quote(key), elements, size, rest.size());
    storages.emplace(key, rest.first(static_cast<size_t>(elements) * size));
    rest = rest.subspan(static_cast<size_t>(elements) * size);
  }
  return place(entries, storages, file);
}

}  // namespace

std::vector<StoredTensor> read_pytorch_file(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (is_zip(*file)) return read_zip_form(file);
  if (has_magic(*file)) return read_stream_form(file);
  const auto bytes = file->bytes();
  const bool pointer = std::string_view(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 7))
                           .starts_with("version");
  throw Error(fmt::format("pytorch: {} is neither a zip archive nor begins with the magic number of torch.save", path),
              pointer ? "it looks like a pointer of git-lfs: fetch the file itself (git lfs pull)" : "");
}

std::vector<StoredTensor> read_sharded_pytorch_file(const std::string& index_path) {
  return read_shards(index_path, read_pytorch_file);
}

}  // namespace lathe
