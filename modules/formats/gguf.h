// GGUF version 2 and 3 (specification: ggml repository, docs/gguf.md): metadata and tensors of one file, or of the
// parts that llama.cpp's gguf-split makes of one.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "formats/mapped_file.h"
#include "formats/outgoing_tensor.h"
#include "formats/stored_tensor.h"

namespace lathe {

// A metadata value. Integers of every width are widened to int64 (uint64 above 2^63 - 1 is refused), floats to double;
// arrays are of one type; an array of arrays is refused.
using GgufValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>, std::vector<double>,
                               std::vector<bool>, std::vector<std::string>>;

// The format's number for a type of element; empty for f64 and i32, which are no weights.
std::optional<uint32_t> ggml_type_of(DType dtype);

// The name of one part among several, as gguf-split gives it: STEM-00002-of-00003.gguf.
struct GgufPartName {
  std::string stem;                    // with the folder
  int64_t number = 0, count = 0;       // the first part is number 1
  std::string of(int64_t part) const;  // the name of another part
};
// Empty for a path of another form.
std::optional<GgufPartName> parse_gguf_part_name(const std::string& path);

class GgufFile {
 public:
  // Reads the header, the metadata and the tensor table; every length and offset is checked against the file. Of a file
  // in parts, `NAME-00002-of-00003.gguf`, whichever is named, all parts are read: the metadata is the first one's, the
  // tensors are those of all. Throws Error naming the file and what is wrong, and each part that is missing.
  static std::shared_ptr<const GgufFile> open(const std::string& path);

  // Of the file whose metadata it is.
  const std::string& path() const { return files_.front()->path(); }
  // Of all parts, in their order.
  std::vector<std::string> paths() const;
  int version() const { return version_; }
  const std::map<std::string, GgufValue, std::less<>>& metadata() const { return metadata_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }

  // The value of `key` as T; empty when the key is absent; throws Error naming file, key and types when it has another
  // type (an integer is accepted where a double is asked).
  template <class T>
  std::optional<T> get(std::string_view key) const;
  // The same, and throws when the key is absent.
  template <class T>
  T require(std::string_view key) const;

 private:
  GgufFile() = default;
  static std::shared_ptr<GgufFile> open_part(const std::string& path);
  static std::shared_ptr<GgufFile> open_parts(const GgufPartName& name);
  std::vector<std::shared_ptr<const MappedFile>> files_;
  int version_ = 0;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<StoredTensor> tensors_;
};

// Metadata in the order of the file.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

// Writes version 3 under a temporary name and renames it when whole; `verify` gets that name before, and what it throws
// leaves no file. The format has more number types than a GgufValue: integers become u32 where they fit, i32 where they
// are negative, else i64 or u64; other numbers f32; the elements of arrays i32 and f32. These are the types that
// llama.cpp asks for. Throws Error naming path and key or tensor for what the format cannot hold.
void write_gguf(const std::string& path, const GgufMetadata& metadata, const std::vector<OutgoingTensor>& tensors,
                const std::function<void(const std::string& written)>& verify = {});

}  // namespace lathe
