#include "text/tokenizer/sentencepiece_check.h"

#include <cstdint>

#include "tensor/errors.h"
#include "text/tokenizer/charsmap.h"

namespace lathe {
namespace {

// The fields of one protobuf message, one after another.
class MessageReader {
 public:
  MessageReader(std::string_view bytes, const std::string& path) : rest_(bytes), path_(path) {}

  uint64_t number = 0;        // of the field
  std::string_view contents;  // of a field with a length; empty for others
  uint64_t value = 0;         // of a varint

  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    number = tag >> 3;
    contents = {};
    switch (tag & 7) {
      case 0: value = varint(); return true;
      case 1: take(8); return true;
      case 2: contents = take(varint()); return true;
      case 5: take(4); return true;
      default: fail();
    }
  }

 private:
  [[noreturn]] void fail() const { throw Error(path_ + ": no sentencepiece model: it is cut, or no protobuf message"); }
  std::string_view take(uint64_t length) {
    if (length > rest_.size()) fail();
    const std::string_view taken = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return taken;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    fail();
  }

  std::string_view rest_;
  const std::string& path_;
};

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint64_t { kTrainer = 2, kNormalizer = 3, kDenormalizer = 5 };
enum TrainerField : uint64_t { kModelType = 3 };
enum ModelType : uint64_t { kUnigram = 1 };
enum NormalizerField : uint64_t { kCharsmap = 2 };

}  // namespace

bool check_sentencepiece_model(std::string_view model, const std::string& path) {
  uint64_t type = kUnigram;
  MessageReader fields(model, path);
  while (fields.next()) {
    if (fields.number == kTrainer) {
      MessageReader settings(fields.contents, path);
      while (settings.next())
        if (settings.number == kModelType) type = settings.value;
    }
    if (fields.number != kNormalizer && fields.number != kDenormalizer) continue;
    MessageReader rules(fields.contents, path);
    while (rules.next())
      if (rules.number == kCharsmap) Charsmap(rules.contents);  // throws
  }
  return type == kUnigram;
}

}  // namespace lathe
