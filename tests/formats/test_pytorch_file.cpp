// pytorch_model.bin in its two forms: what is read, and that what is not read is refused by name with nothing run.
#include <cstring>

#include "formats/pickle.h"
#include "formats/pytorch_file.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/formats/pytorch_builder.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using namespace lathe::test::pickle;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<StoredTensor> read(const std::string& bytes) {
  static const TemporaryDirectory folder;
  const std::string path = (folder.path() / "pytorch_model.bin").string();
  write_file(path, bytes);
  return read_pytorch_file(path);
}

// The message of the refusal of `bytes`; empty when they are read.
std::string refusal(const std::string& bytes) {
  try {
    read(bytes);
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

std::string floats(std::initializer_list<float> values) {
  std::string bytes;
  for (const float value : values) bytes += little_endian(value);
  return bytes;
}

float first_float(const StoredTensor& tensor) {
  float value = 0;
  std::memcpy(&value, tensor.data, 4);
  return value;
}

const std::string kSix = floats({0, 1, 2, 3, 4, 5});
// A matrix, a row of the same storage, a Parameter, a scalar, and the attributes that a state_dict carries.
const std::string kDictionary =
    kProtocol + ordered_dict() + kMark + text("a") +
    tensor(pickle::storage("FloatStorage", "0", 6), 0, {2, 3}, {3, 1}) + text("row") +
    tensor(pickle::storage("FloatStorage", "0", 6), 3, {3}, {1}) + text("parameter") +
    global("torch._utils", "_rebuild_parameter") +
    tuple({tensor(pickle::storage("FloatStorage", "0", 6), 5, {1, 1}, {9, 7}), "\x88", ordered_dict()}) + kReduce +
    text("scalar") + tensor(pickle::storage("FloatStorage", "1", 1), 0, {}, {}) + kSetItems + kEmptyDict +
    text("_metadata") + ordered_dict() + "s" + kBuild + kStop;

// One tensor "a" of a pickle with these parts.
std::string one(const std::string& value) { return dictionary(text("a") + value); }
std::string one(const std::string& type, int32_t elements, int32_t offset, const std::vector<int32_t>& shape,
                const std::vector<int32_t>& strides) {
  return one(tensor(pickle::storage(type, "0", elements), offset, shape, strides));
}

}  // namespace

TEST_CASE("pytorch file: both forms give the same tensors") {
  for (const std::string& bytes :
       {zip_form(kDictionary, {kSix, floats({7})}), stream_form(kDictionary, {kSix, floats({7})}, 4)}) {
    const auto tensors = read(bytes);
    REQUIRE(tensors.size() == 4);
    CHECK(tensors[0].name == "a");
    CHECK(tensors[0].dtype == DType::f32);
    CHECK(tensors[0].type_name == "F32");
    CHECK(tensors[0].shape == std::vector<int64_t>{2, 3});
    CHECK(std::string(reinterpret_cast<const char*>(tensors[0].data), tensors[0].bytes) == kSix);
    CHECK(tensors[1].name == "row");
    CHECK(first_float(tensors[1]) == 3);
    CHECK(tensors[2].shape == std::vector<int64_t>{1, 1});
    CHECK(first_float(tensors[2]) == 5);
    CHECK(tensors[3].shape.empty());
    CHECK(first_float(tensors[3]) == 7);
  }
}

TEST_CASE("pytorch file: every type of element is known by its name") {
  const std::tuple<const char*, const char*, size_t> types[] = {
      {"FloatStorage", "F32", 4},     {"DoubleStorage", "F64", 8}, {"HalfStorage", "F16", 2},
      {"BFloat16Storage", "BF16", 2}, {"IntStorage", "I32", 4},    {"LongStorage", "I64", 8},
      {"ShortStorage", "I16", 2},     {"CharStorage", "I8", 1},    {"ByteStorage", "U8", 1},
      {"BoolStorage", "BOOL", 1}};
  for (const auto& [type, name, element_bytes] : types) {
    const auto tensors = read(zip_form(one(type, 2, 0, {2}, {1}), {std::string(16, '\0')}));
    REQUIRE(tensors.size() == 1);
    CHECK(tensors[0].type_name == name);
    CHECK(tensors[0].bytes == 2 * element_bytes);
    CHECK((!tensors[0].dtype || static_cast<size_t>(info(*tensors[0].dtype).block_bytes) == element_bytes));
  }
}

TEST_CASE("pytorch file: nothing but tensors is allowed, and nothing is called") {
  const std::string command = tuple({text("touch planted")}) + kReduce;
  const std::pair<std::string, const char*> cases[] = {
      {one(global("os", "system") + command), "the global 'os.system' is not allowed"},
      {one(global("builtins", "eval") + command), "the global 'builtins.eval' is not allowed"},
      {one(text("os") + text("system") + "\x93" + command), "the global 'os.system' is not allowed"},
      {one(global("torch", "load") + command), "the global 'torch.load' is not allowed"},
      {one(global("torch", "FloatStorage") + tuple({integer(9)}) + kReduce), "a call of torch.FloatStorage"},
      {one(text("os.system") + command), "a call of a text, expected one of a known function"},
      {one(global("collections", "OrderedDict") + text("x") + kReduce), "a call with a text, expected a tuple"},
      {one(global("collections", "OrderedDict") + kEmptyTuple + "\x81"), "(instruction 0x81): an instruction that no"},
      {one("i__main__\nThing\n"), "(instruction 0x69)"},
      {one(text("x") + kEmptyDict + kBuild), "attributes of a text"},
      {one(ordered_dict()), "'a': the value is no tensor"},
      {one(integer(3)), "'a': the value is no tensor"},
      {kProtocol + integer(3) + kStop, "holds no dictionary of tensors"},
      {kProtocol + kEmptyDict + integer(1) + integer(2) + "s" + kStop, "a key of the dictionary is no text"},
      {std::string("\x80\x00.", 3), "protocol 0"},
      {kProtocol + kStop, "the stack is empty"},
      {kProtocol + kTuple, "no mark is set"},
      {kProtocol + "h\x07.", "the memo has no value 7"},
      {kProtocol + "X\xff\xff\xff\xff", "expected 4294967295 more bytes"},
      {kProtocol + "\x8a\xff" + std::string(255, '\1'), "an integer of 255 bytes"},
      {kProtocol + std::string(3 << 20, '('), "more than 2097152 marks"},
      {kProtocol + std::string(3 << 20, ')'), "more than 2097152 values"},
  };
  for (const auto& [pickle, message] : cases) {
    CHECK_THAT(refusal(zip_form(pickle, {kSix})), ContainsSubstring(message));
    CHECK_THAT(refusal(stream_form(pickle, {kSix}, 4)), ContainsSubstring(message));
  }
  CHECK_FALSE(std::filesystem::exists("planted"));
}

TEST_CASE("pytorch file: a value that holds itself, and values that many share") {
  // A dictionary under its own key, remembered and recalled.
  const std::string loop =
      kProtocol + kEmptyDict + "q" + std::string(1, '\0') + text("a") + "h" + std::string(1, '\0') + "s" + kStop;
  CHECK_THAT(refusal(zip_form(loop, {})), ContainsSubstring("the value is no tensor"));
  // A tuple of three of the one before, a thousand times: 3^1000 leaves, and a graph as small as the instructions.
  std::string nested = kProtocol + "]";
  for (int i = 0; i < 1000; ++i) nested += "22\x87";
  CHECK_THAT(refusal(zip_form(nested + kStop, {})), ContainsSubstring("holds no dictionary of tensors"));
}

TEST_CASE("pytorch file: ranges, strides and storages are held against the file") {
  const std::pair<std::string, const char*> cases[] = {
      {one("FloatStorage", 6, 1, {2, 3}, {3, 1}), "6 elements from 1 on reach beyond its storage of 6"},
      {one("FloatStorage", 6, 0, {2, 3}, {1, 2}), "the strides (1, 2), expected a contiguous tensor"},
      {one("FloatStorage", 6, 0, {6}, {0}), "the strides (0), expected a contiguous tensor"},
      {one("FloatStorage", 7, 0, {7}, {1}), "its storage '0' has 24 bytes, expected 7 elements of F32"},
      {one("DoubleStorage", 6, 0, {6}, {1}), "its storage '0' has"},
      {one("FloatStorage", 2147483647, 0, {2147483647}, {1}), "its storage '0' has 24 bytes"},
      {one("FloatStorage", 6, 0, {2147483647, 2147483647, 2147483647}, {1, 1, 1}), "overflows"},
      {one("FloatStorage", 6, -1, {2}, {1}), "its offset is not a number from 0"},
      {one("FloatStorage", 6, 0, {-2}, {1}), "its shape is not a number from 0"},
      {one("FloatStorage", 6, 0, {2}, {1, 1}), "1 dimensions and 2 strides"},
      {one("FloatStorage", 6, 0, std::vector<int32_t>(9, 1), std::vector<int32_t>(9, 1)), "at most 8 numbers"},
      {one(tensor(text("0"), 0, {2}, {1})), "its storage is no reference to one"},
      {one(tensor(text("0") + kPersistent, 0, {2}, {1})), "its storage is described otherwise"},
      {one(global("torch._utils", "_rebuild_tensor_v2") + kEmptyTuple + kReduce), "a call with 0 arguments"},
  };
  for (const auto& [pickle, message] : cases) CHECK_THAT(refusal(zip_form(pickle, {kSix})), ContainsSubstring(message));
  const std::string elsewhere = one(tensor(pickle::storage("FloatStorage", "9", 6), 0, {6}, {1}));
  CHECK_THAT(refusal(zip_form(elsewhere, {kSix})), ContainsSubstring("its storage '9' is missing"));
  CHECK_THAT(refusal(stream_form(elsewhere, {kSix}, 4)), ContainsSubstring("the storage '0' belongs to no tensor"));
  const std::string twice = text("a") + tensor(pickle::storage("FloatStorage", "0", 6), 0, {6}, {1});
  CHECK_THAT(refusal(zip_form(dictionary(twice + twice), {kSix})), ContainsSubstring("appears twice"));

  const std::string good = one("FloatStorage", 6, 0, {6}, {1});
  CHECK(refusal(zip_form(good, {kSix})).empty());
  CHECK_THAT(refusal(stream_form(good, {kSix}, 4, "\x89")), ContainsSubstring("big endian"));
  CHECK_THAT(refusal(ZipBuilder().entry("a/data.pkl", good).entry("a/byteorder", "big").build()),
             ContainsSubstring("big endian"));
  CHECK_THAT(refusal("not a checkpoint at all"), ContainsSubstring("neither a zip archive nor"));
}

TEST_CASE("pytorch file: an archive's claims are held against the file") {
  const std::string good = one("FloatStorage", 6, 0, {6}, {1});
  const auto archive = [&](const ZipBuilder::Options& options) {
    return ZipBuilder().entry("a/data.pkl", good).entry("a/data/0", kSix, options).build();
  };
  CHECK(refusal(archive({})).empty());
  CHECK_THAT(refusal(archive({.method = 8, .claimed_size = int64_t{4} << 30, .local_name = {}})),
             ContainsSubstring("'a/data/0' is compressed (method 8, 24 bytes that claim"));
  CHECK_THAT(refusal(archive({.flags = 1, .local_name = {}})), ContainsSubstring("is encrypted"));
  CHECK_THAT(refusal(archive({.claimed_size = 1 << 30, .local_name = {}})),
             ContainsSubstring("claims 24 stored bytes and a size of 1073741824"));
  CHECK_THAT(refusal(archive({.local_name = "a/data/1"})), ContainsSubstring("has another name in its header"));
  CHECK_THAT(refusal(ZipBuilder().entry("a/data.pkl", good).entry("a/data.pkl", good).build()),
             ContainsSubstring("'a/data.pkl' appears twice"));
  CHECK_THAT(refusal(ZipBuilder().entry("a/x", good).build()), ContainsSubstring("has no data.pkl"));
  CHECK_THAT(refusal(ZipBuilder().entry("a/data.pkl", good).build(5)), ContainsSubstring("entry 0 of the directory"));
  CHECK_THAT(refusal(ZipBuilder().entry("a/data.pkl", good).build(1 << 30)), ContainsSubstring("reaches beyond"));
}

TEST_CASE("pytorch file: cut anywhere, it is refused") {
  for (const std::string& bytes :
       {zip_form(kDictionary, {kSix, floats({7})}), stream_form(kDictionary, {kSix, floats({7})}, 4)})
    for (size_t length = 0; length < bytes.size(); ++length) {
      INFO("the first " << length << " of " << bytes.size() << " bytes");
      CHECK_FALSE(refusal(bytes.substr(0, length)).empty());
    }
}

TEST_CASE("pytorch file: shards") {
  const TemporaryDirectory folder;
  const auto shard = [&](const char* name, const char* tensor_name) {
    write_file(
        folder.path() / name,
        zip_form(dictionary(text(tensor_name) + tensor(pickle::storage("FloatStorage", "0", 6), 0, {6}, {1})), {kSix}));
  };
  shard("1.bin", "a");
  shard("2.bin", "b");
  const std::string index = (folder.path() / "pytorch_model.bin.index.json").string();
  write_file(index, R"({"weight_map":{"a":"1.bin","b":"2.bin"}})");
  CHECK(read_sharded_pytorch_file(index).size() == 2);
  write_file(index, R"({"weight_map":{"a":"1.bin","b":"3.bin"}})");
  CHECK_THROWS_WITH(read_sharded_pytorch_file(index), ContainsSubstring("are missing: 3.bin"));
}
