// Builds pytorch_model.bin files byte by byte, right or wrong: pickles instruction by instruction, zip archives entry
// by entry.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::test {

template <class T>
std::string little_endian(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

// Instructions of protocol 2 by what they push.
namespace pickle {
inline const std::string kProtocol = "\x80\x02", kStop = ".", kMark = "(", kTuple = "t", kReduce = "R", kNone = "N",
                         kSetItems = "u", kEmptyDict = "}", kEmptyTuple = ")", kPersistent = "Q", kBuild = "b";
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string text(std::string_view value) {
  return "X" + little_endian(static_cast<uint32_t>(value.size())) + std::string(value);
}
inline std::string integer(int32_t value) { return "J" + little_endian(value); }
inline std::string tuple(const std::vector<std::string>& items) {
  std::string bytes = kMark;
  for (const std::string& item : items) bytes += item;
  return bytes + kTuple;
}
inline std::string integers(const std::vector<int32_t>& values) {
  std::vector<std::string> items;
  for (const int32_t value : values) items.push_back(integer(value));
  return tuple(items);
}
inline std::string ordered_dict() { return global("collections", "OrderedDict") + kEmptyTuple + kReduce; }
inline std::string storage(const std::string& type, const std::string& key, int32_t elements) {
  return tuple({text("storage"), global("torch", type), text(key), text("cpu"), integer(elements)}) + kPersistent;
}
inline std::string tensor(const std::string& storage, int32_t offset, const std::vector<int32_t>& shape,
                          const std::vector<int32_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple({storage, integer(offset), integers(shape), integers(strides), "\x89", ordered_dict()}) + kReduce;
}
// A whole pickle of a dictionary; `items` are keys and values, one after another.
inline std::string dictionary(const std::string& items) {
  return kProtocol + ordered_dict() + kMark + items + kSetItems + kStop;
}
}  // namespace pickle

class ZipBuilder {
 public:
  struct Options {
    uint16_t flags = 0, method = 0;
    int64_t claimed_size = -1;  // of the uncompressed bytes; -1: the truth
    std::string local_name;     // empty: the entry's
  };
  ZipBuilder& entry(const std::string& name, const std::string& bytes) { return entry(name, bytes, Options()); }
  ZipBuilder& entry(const std::string& name, const std::string& bytes, const Options& options) {
    const auto stored = static_cast<uint32_t>(bytes.size());
    const uint32_t size = options.claimed_size < 0 ? stored : static_cast<uint32_t>(options.claimed_size);
    const auto name_bytes = static_cast<uint16_t>(name.size());
    const std::string common = little_endian(options.flags) + little_endian(options.method) + std::string(8, '\0') +
                               little_endian(stored) + little_endian(size) + little_endian(name_bytes);
    directory_ += "PK\1\2" + std::string(4, '\0') + common + std::string(12, '\0') +
                  little_endian(static_cast<uint32_t>(file_.size())) + name;
    file_ += "PK\3\4" + std::string(2, '\0') + common + std::string(2, '\0') +
             (options.local_name.empty() ? name : options.local_name) + bytes;
    ++count_;
    return *this;
  }
  // `begin` of the directory as the end record claims it; -1: the truth.
  std::string build(int64_t begin = -1) const {
    const auto at = static_cast<uint32_t>(begin < 0 ? static_cast<int64_t>(file_.size()) : begin);
    return file_ + directory_ + "PK\5\6" + std::string(4, '\0') + little_endian(count_) + little_endian(count_) +
           little_endian(static_cast<uint32_t>(directory_.size())) + little_endian(at) + std::string(2, '\0');
  }

 private:
  std::string file_, directory_;
  uint16_t count_ = 0;
};

// The two forms of torch.save: `pickle` and the storages "0", "1", ... that it refers to.
inline std::string zip_form(const std::string& pickle, const std::vector<std::string>& storages) {
  ZipBuilder zip;
  zip.entry("archive/data.pkl", pickle).entry("archive/byteorder", "little");
  for (size_t i = 0; i < storages.size(); ++i) zip.entry("archive/data/" + std::to_string(i), storages[i]);
  return zip.build();
}
inline std::string stream_form(const std::string& pickle, const std::vector<std::string>& storages,
                               size_t element_bytes, const std::string& little = "\x88") {
  using namespace pickle;
  std::string file =
      "\x80\x02\x8a\x0al\xfc\x9c"
      "F\xf9 j\xa8P\x19.";
  file += kProtocol + integer(1001) + kStop;
  file += kProtocol + kEmptyDict + kMark + text("little_endian") + little + kSetItems + kStop + pickle;
  std::string keys = kProtocol + "]" + kMark, data;
  for (size_t i = 0; i < storages.size(); ++i) {
    keys += text(std::to_string(i));
    data += little_endian(static_cast<uint64_t>(storages[i].size() / element_bytes)) + storages[i];
  }
  return file + keys + "e" + kStop + data;
}

}  // namespace lathe::test
