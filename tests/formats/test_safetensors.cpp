// safetensors: what is read, what is refused, what is written.
#include <algorithm>
#include <cstring>

#include "formats/safetensors.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

std::string header_of_two() {
  return R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[16,28]},)"
         R"("a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}   )";
}

// The message of the refusal of `bytes`; empty when they are read.
std::string safetensors_refusal(const std::string& bytes) {
  static const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.safetensors").string();
  write_file(path, bytes);
  try {
    read_safetensors(path);
    return {};
  } catch (const Error& e) {
    return e.what();
  }
}

std::vector<std::string> names_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("safetensors: tensors come in the order of their data, with their metadata") {
  const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.safetensors").string();
  write_file(path, file_of(header_of_two(), std::string(16, 'a') + std::string(12, 'b')));
  std::map<std::string, std::string> metadata;
  const auto tensors = read_safetensors(path, &metadata);
  REQUIRE(tensors.size() == 2);
  CHECK(tensors[0].name == "a");
  CHECK(tensors[0].dtype == DType::f32);
  CHECK(tensors[0].shape == std::vector<int64_t>{4});
  CHECK(tensors[1].dtype == DType::bf16);
  CHECK(tensors[1].shape == std::vector<int64_t>{2, 3});
  CHECK(tensors[1].bytes == 12);
  CHECK(tensors[1].data[11] == 'b');
  CHECK(metadata == std::map<std::string, std::string>{{"format", "pt"}});
}

TEST_CASE("safetensors: scalars, empty tensors and types without arithmetic are kept") {
  const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.safetensors").string();
  write_file(path, file_of(R"({"scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]},
    "empty":{"dtype":"F32","shape":[0,5],"data_offsets":[4,4]},
    "mask":{"dtype":"BOOL","shape":[3],"data_offsets":[4,7]},
    "odd":{"dtype":"F4","shape":[6],"data_offsets":[7,10]}})",
                           std::string(10, 'x')));
  const auto tensors = read_safetensors(path);
  REQUIRE(tensors.size() == 4);
  CHECK(tensors[0].shape.empty());
  CHECK(tensors[1].bytes == 0);
  CHECK_FALSE(tensors[2].dtype);
  CHECK(tensors[2].type_name == "BOOL");
  CHECK(tensors[3].bytes == 3);
}

TEST_CASE("safetensors: metadata that is null is none, and null inside it is refused") {
  const auto with = [](const std::string& metadata) {
    return file_of("{\"__metadata__\":" + metadata + R"(,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                   "abcd");
  };
  CHECK(safetensors_refusal(with("null")).empty());
  CHECK(safetensors_refusal(with("{}")).empty());
  CHECK_THAT(safetensors_refusal(with(R"({"format":null})")),
             ContainsSubstring("'__metadata__' 'format' is null, expected a string"));
  CHECK_THAT(safetensors_refusal(with("[]")), ContainsSubstring("'__metadata__' is array, expected an object"));
}

TEST_CASE("safetensors: a file cut at any length is refused") {
  const std::string whole = file_of(header_of_two(), std::string(28, 'x'));
  REQUIRE(safetensors_refusal(whole).empty());
  for (size_t length = 0; length < whole.size(); ++length) {
    INFO("length " << length);
    REQUIRE_FALSE(safetensors_refusal(whole.substr(0, length)).empty());
  }
}

TEST_CASE("safetensors: a damaged file is refused with its reason") {
  const std::string tensor = R"("a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]})";
  struct Case {
    std::string header, message;
  };
  const Case cases[] = {
      {"[]", "the header is array, expected an object"},
      {"{" + tensor + "," + tensor + "}", "the key 'a' appears twice"},
      {"{" + tensor, "parse error"},
      {"{" + tensor + "} x", "parse error"},
      {R"({"a":7})", "'a' is described by number, expected an object"},
      {R"({"a":{"shape":[4],"data_offsets":[0,16]}})", "'dtype' is missing, expected string"},
      {R"({"a":{"dtype":3,"shape":[4],"data_offsets":[0,16]}})", "'dtype' is number, expected string"},
      {R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,16]}})", "'shape' is number, expected array"},
      {R"({"a":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}})", "'shape' holds '-4', expected an integer"},
      {R"({"a":{"dtype":"F32","shape":[4.0],"data_offsets":[0,16]}})", "'shape' holds '4.0'"},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,16]}})", "expected an integer from 0"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}})", "the product of dimensions"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,16]}})", "which hold 16 bytes"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16,16]}})", "'data_offsets' holds 3 values, expected 2"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}})", "has the offsets 16 to 0, expected a range"},
      {R"({"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}})", "expected a range within the 16 bytes of data"},
      {R"({"a":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}})", "shape (5) and type F32"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})",
       "the tensors end at byte 12 of the data, the file at 16"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}})",
       "begins at byte 4 of the data, after a hole from byte 0"},
      {R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
       "'b' begins at byte 8 of the data, inside the tensor that ends at byte 16"},
      {R"({"__metadata__":3,)" + tensor + "}", "'__metadata__' is number, expected an object"},
      {R"({"__metadata__":{"x":3},)" + tensor + "}", "'__metadata__' 'x' is number, expected a string"},
      {"{\"\xff\":1}", "parse error"},
      {std::string(10000, '['), "nested deeper than 8 levels"},
  };
  for (const Case& c : cases) {
    INFO(c.header.substr(0, 120));
    const std::string message = safetensors_refusal(file_of(c.header, std::string(16, 'x')));
    CHECK_THAT(message, ContainsSubstring(c.message));
    CHECK(message.find('\n') == message.npos);
  }
  CHECK_THAT(safetensors_refusal(std::string(8, '\xff') + "{}"),
             ContainsSubstring("the header claims 18446744073709551615 bytes"));
  CHECK_THAT(safetensors_refusal("abc"), ContainsSubstring("has 3 bytes, expected at least 8"));
}

TEST_CASE("safetensors: what is written is read back, bit for bit") {
  const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.safetensors").string();
  const float values[] = {1, 2, 3, 4, 5, 6};
  const double wide[] = {0.5, -1};
  const int32_t ids[] = {7};
  Tensor half = Tensor::empty({3}, DType::bf16);
  std::memset(half.raw(), 0x3f, 6);
  write_safetensors(path,
                    {{"half", half},
                     {"w", Tensor::of({2, 3}, values)},
                     {"wide", Tensor::of({2}, wide)},
                     {"ids", Tensor::of({1}, ids)}},
                    {{"format", "pt"}});
  CHECK(names_in(folder.path()) == std::vector<std::string>{"a.safetensors"});
  std::map<std::string, std::string> metadata;
  const auto tensors = read_safetensors(path, &metadata);
  REQUIRE(tensors.size() == 4);
  CHECK(tensors[0].name == "wide");  // widest first, so that each is aligned
  CHECK(tensors[1].name == "w");
  CHECK(tensors[1].shape == std::vector<int64_t>{2, 3});
  CHECK(std::memcmp(tensors[1].data, values, sizeof values) == 0);
  CHECK(reinterpret_cast<uintptr_t>(tensors[0].data) % 8 == 0);
  CHECK(tensors[3].name == "half");
  CHECK(tensors[3].dtype == DType::bf16);
  CHECK(metadata.at("format") == "pt");
}

TEST_CASE("safetensors: what cannot be written leaves nothing") {
  const TemporaryDirectory folder;
  const Tensor t = Tensor::zeros({4, 4});
  CHECK_THROWS_WITH(write_safetensors((folder.path() / "no/a.safetensors").string(), {{"t", t}}),
                    ContainsSubstring("No such file or directory"));
  CHECK_THROWS_WITH(write_safetensors(folder.path().string(), {{"t", t}}), ContainsSubstring("Is a directory"));
  const std::string path = (folder.path() / "a.safetensors").string();
  CHECK_THROWS_WITH(write_safetensors(path, {{"t", t}, {"t", t}}), ContainsSubstring("the tensor name 't' is taken"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"t", t.column_range(0, 2)}}), ContainsSubstring("is not contiguous"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"t\xff", t}}), ContainsSubstring("not valid UTF-8"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"t", Tensor::empty({32}, DType::q8_0)}}), ContainsSubstring("q8_0"));
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("safetensors: shards") {
  const TemporaryDirectory folder;
  const std::string index = (folder.path() / "model.safetensors.index.json").string();
  const auto shard = [&](const char* name, const std::vector<std::string>& tensors) {
    std::vector<std::pair<std::string, Tensor>> list;
    for (const std::string& tensor : tensors) list.emplace_back(tensor, Tensor::zeros({2}));
    write_safetensors((folder.path() / name).string(), list);
  };
  shard("1.safetensors", {"a", "b"});
  shard("2.safetensors", {"c"});
  const std::string good = R"({"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"}})";

  write_file(index, good);
  CHECK(read_sharded_safetensors(index).size() == 3);

  const std::pair<const char*, const char*> bad[] = {
      {R"({"weight_map":{"a":"1.safetensors","d":"3.safetensors"}})", "are missing: 3.safetensors"},
      {R"({"weight_map":{"a":"1.safetensors","c":"1.safetensors"}})", "'c' is not in the shard 1.safetensors"},
      {R"({"weight_map":{"a":"../1.safetensors"}})", "is no plain file name"},
      {R"({"weight_map":{"a":3}})", "the shard of 'a' is number, expected a file name"},
      {R"({"weights":{}})", "expected an object 'weight_map'"},
      {R"([])", "expected an object 'weight_map'"},
      {R"({"weight_map":{"a":"1.safetensors","a":"1.safetensors"}})", "the key 'a' appears twice"},
  };
  for (const auto& [text, message] : bad) {
    INFO(text);
    write_file(index, text);
    CHECK_THROWS_WITH(read_sharded_safetensors(index), ContainsSubstring(message));
  }
  shard("2.safetensors", {"c", "a"});
  write_file(index, good);
  CHECK_THROWS_WITH(read_sharded_safetensors(index),
                    ContainsSubstring("'a' is in two shards, 1.safetensors and 2.safetensors"));
}

TEST_CASE("safetensors: real files") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/models");
  const auto folder = *shared / "models/stories260K";
  CHECK(read_safetensors((folder / "hf/model.safetensors").string()).size() == 47);
  CHECK(read_sharded_safetensors((folder / "hf_bf16_sharded/model.safetensors.index.json").string()).size() == 47);
}
