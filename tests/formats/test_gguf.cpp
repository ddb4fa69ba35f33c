// GGUF: what is read, and that a damaged file is refused with a reason.
#include <functional>

#include "formats/gguf.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/formats/gguf_builder.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;
using B = GgufBuilder;

namespace {

struct Opener {
  TemporaryDirectory folder;
  std::shared_ptr<const GgufFile> operator()(const std::string& bytes) const {
    const auto path = folder.path() / "a.gguf";
    write_file(path, bytes);
    return GgufFile::open(path.string());
  }
  // The message of the refusal; empty when the file is read.
  std::string refusal(const std::string& bytes) const {
    try {
      (*this)(bytes);
      return {};
    } catch (const Error& e) {
      return e.what();
    }
  }
};

// Every kind of metadata value, three tensors.
B whole_file() {
  B b;
  b.entry("general.architecture", "llama");
  b.entry("a.u8", B::u8, B::bytes_of<uint8_t>(200)).entry("a.i8", B::i8, B::bytes_of<int8_t>(-3));
  b.entry("a.u16", B::u16, B::bytes_of<uint16_t>(60000)).entry("a.i16", B::i16, B::bytes_of<int16_t>(-300));
  b.entry("a.u32", B::u32, B::bytes_of<uint32_t>(4000000000u)).entry("a.i32", B::i32, B::bytes_of<int32_t>(-70000));
  b.entry("a.u64", B::u64, B::bytes_of<uint64_t>(uint64_t{1} << 62)).entry("a.i64", B::i64, B::bytes_of<int64_t>(-5));
  b.entry("a.f32", 0.5f).entry("a.f64", B::f64, B::bytes_of(0.1)).entry("a.bool", B::boolean, std::string(1, '\1'));
  b.list("list.string", B::string, {"ab", "", "c"});
  b.list("list.i32", B::i32, {B::bytes_of<int32_t>(-1), B::bytes_of<int32_t>(7)});
  b.list("list.f32", B::f32, {B::bytes_of(1.5f)}).list("list.bool", B::boolean, {"\1"});
  b.list("list.empty", B::u8, {});
  b.tensor("f", {3, 2}, 0, counting_floats(6));
  b.tensor("q", {32, 2}, 3, std::string(40, 'q'));
  b.tensor("k", {256}, 21, std::string(110, 'k'));
  return b;
}

}  // namespace

TEST_CASE("gguf: metadata of every type is read") {
  for (const uint32_t version : {2u, 3u}) {
    B b = whole_file();
    b.version = version;
    const Opener open;
    const auto file = open(b.build());
    CHECK(file->version() == static_cast<int>(version));
    CHECK(file->require<std::string>("general.architecture") == "llama");
    CHECK(file->require<int64_t>("a.u8") == 200);
    CHECK(file->require<int64_t>("a.i8") == -3);
    CHECK(file->require<int64_t>("a.u16") == 60000);
    CHECK(file->require<int64_t>("a.i16") == -300);
    CHECK(file->require<int64_t>("a.u32") == 4000000000);
    CHECK(file->require<int64_t>("a.i32") == -70000);
    CHECK(file->require<int64_t>("a.u64") == int64_t{1} << 62);
    CHECK(file->require<int64_t>("a.i64") == -5);
    CHECK(file->require<double>("a.f32") == 0.5);
    CHECK(file->require<double>("a.f64") == 0.1);
    CHECK(file->require<double>("a.i64") == -5.0);
    CHECK(file->require<bool>("a.bool"));
    CHECK(file->require<std::vector<std::string>>("list.string") == std::vector<std::string>{"ab", "", "c"});
    CHECK(file->require<std::vector<int64_t>>("list.i32") == std::vector<int64_t>{-1, 7});
    CHECK(file->require<std::vector<double>>("list.f32") == std::vector<double>{1.5});
    CHECK(file->require<std::vector<bool>>("list.bool") == std::vector<bool>{true});
    CHECK(file->require<std::vector<int64_t>>("list.empty").empty());
    CHECK_FALSE(file->get<int64_t>("absent"));
    CHECK_THROWS_WITH(file->require<int64_t>("absent"), ContainsSubstring("'absent' is missing"));
    CHECK_THROWS_WITH(file->get<int64_t>("a.bool"), ContainsSubstring("'a.bool' is a boolean, expected an integer"));
  }
}

TEST_CASE("gguf: tensors have the outermost dimension first and their bytes stay in the file") {
  const Opener open;
  const auto file = open(whole_file().build());
  const auto& t = file->tensors();
  REQUIRE(t.size() == 3);
  CHECK(t[0].name == "f");
  CHECK(t[0].dtype == DType::f32);
  CHECK(t[0].shape == std::vector<int64_t>{2, 3});
  CHECK(t[0].bytes == 24);
  float last = 0;
  std::memcpy(&last, t[0].data + 20, 4);
  CHECK(last == 5.0f);
  CHECK(t[1].dtype == DType::q4_1);
  CHECK(t[1].bytes == 40);
  CHECK(t[1].data[39] == 'q');
  CHECK_FALSE(t[2].dtype);  // a type of ggml that the library has no arithmetic for
  CHECK(t[2].type_name == "IQ3_S");
  CHECK(t[2].bytes == 110);

  B unknown;
  unknown.tensor("x", {7}, 1234, "");
  const auto other = open(unknown.build());
  CHECK(other->tensors()[0].type_name == "ggml type 1234");
  CHECK_FALSE(other->tensors()[0].dtype);
}

TEST_CASE("gguf: a file cut at any length is refused") {
  const Opener open;
  const std::string whole = whole_file().build();
  // The padding behind the last tensor may be missing.
  const size_t needed = whole.size() - (128 - 110);
  REQUIRE(open.refusal(whole).empty());
  REQUIRE(open.refusal(whole.substr(0, needed)).empty());
  for (size_t length = 0; length < needed; ++length) {
    INFO("length " << length);
    REQUIRE_FALSE(open.refusal(whole.substr(0, length)).empty());
  }
}

TEST_CASE("gguf: a damaged file is refused with its reason") {
  struct Case {
    const char* name;
    std::function<void(B&)> damage;
    const char* message;
  };
  const uint64_t huge = uint64_t{1} << 40, most = ~uint64_t{0};
  const std::string list_of_lists = B::bytes_of<uint32_t>(B::array) + B::bytes_of<uint64_t>(0);
  const Case cases[] = {
      {"magic", [](B& b) { b.magic = "GGML"; }, "does not begin with the magic 'GGUF'"},
      {"version 1", [](B& b) { b.version = 1; }, "version 1 is not supported, expected 2 or 3"},
      {"version 4", [](B& b) { b.version = 4; }, "version 4 is not supported"},
      {"many tensors", [&](B& b) { b.tensor_count = huge; }, "claims 1099511627776 tensors, at most"},
      {"all tensors", [&](B& b) { b.tensor_count = most; }, "claims 18446744073709551615 tensors"},
      {"many entries", [&](B& b) { b.entry_count = most; }, "claims 18446744073709551615 metadata entries"},
      {"value type", [](B& b) { b.entry("x", 13, ""); }, "'x' has value type 13, expected 0 to 12"},
      {"array type", [](B& b) { b.list("x", 99, {}); }, "'x' has value type 99"},
      {"array of arrays", [&](B& b) { b.entry("x", B::array, list_of_lists); }, "'x' is an array of arrays"},
      {"long string", [&](B& b) { b.entry("x", B::string, B::bytes_of(most)); },
       "claims a length of 18446744073709551615"},
      {"long array", [&](B& b) { b.entry("x", B::array, B::bytes_of<uint32_t>(B::u8) + B::bytes_of(most)); },
       "claims 18446744073709551615 array elements"},
      {"boolean", [](B& b) { b.entry("x", B::boolean, "\2"); }, "'x' is a boolean of value 2, expected 0 or 1"},
      {"large integer", [&](B& b) { b.entry("x", B::u64, B::bytes_of(most)); }, "expected at most 2^63 - 1"},
      {"key twice", [](B& b) { b.entry("a.f32", 1.0f); }, "metadata 'a.f32' appears twice"},
      {"alignment 0", [](B& b) { b.entry("general.alignment", 0u); },
       "general.alignment is 0, expected a multiple of 8"},
      {"alignment 12", [](B& b) { b.entry("general.alignment", 12u); }, "general.alignment is 12"},
      {"name twice", [](B& b) { b.tensor("f", {1}, 0, counting_floats(1)); }, "tensor 'f' appears twice"},
      {"five dimensions",
       [](B& b) {
         b.tensor("x", {1, 1, 1, 1, 1}, 0, counting_floats(1));
       },
       "has 5 dimensions"},
      {"dimension", [&](B& b) { b.tensor("x", {most}, 0, ""); }, "has a dimension of 18446744073709551615"},
      {"product",
       [&](B& b) {
         b.tensor("x", {huge, huge}, 0, "");
       },
       "the product of dimensions"},
      {"size", [&](B& b) { b.tensor("x", {uint64_t{1} << 62}, 0, ""); },
       "the size of 4611686018427387904 F32 elements"},
      {"block", [](B& b) { b.tensor("x", {33}, 2, std::string(36, 0)); },
       "33 elements is no multiple of Q4_0's block of 32"},
      {"beyond", [&](B& b) { b.tensor_at("x", {1}, 0, huge, ""); },
       "'x' (4 bytes at offset 1099511627776 of the data)"},
      {"end", [&](B& b) { b.tensor_at("x", {1000}, 0, 0, ""); }, "reaches beyond the file"},
      {"wrapped offset", [&](B& b) { b.tensor_at("x", {1}, 0, most - 3, ""); }, "reaches beyond the file"},
      {"overlap", [](B& b) { b.tensor_at("x", {1}, 0, 8, ""); }, "tensors 'f' and 'x' overlap at offset 8"},
      {"odd offset", [](B& b) { b.tensor_at("x", {1}, 0, 4, ""); }, "begins at offset 4 of the data"},
      {"control characters", [](B& b) { b.entry("\x1b[31m\n", 13, ""); }, "'\\x1b[31m\\x0a' has value type 13"},
  };
  const Opener open;
  for (const Case& c : cases) {
    INFO(c.name);
    B b = whole_file();
    c.damage(b);
    const std::string message = open.refusal(b.build());
    CHECK_THAT(message, ContainsSubstring(c.message));
    CHECK(message.find('\n') == message.npos);
  }
}

TEST_CASE("gguf: a big-endian file is recognised") {
  B b;
  b.version = 3u << 24;
  const Opener open;
  try {
    open(b.build());
    FAIL("read");
  } catch (const Error& e) {
    CHECK_THAT(e.hint(), ContainsSubstring("big endian"));
  }
}

TEST_CASE("gguf: what is no file is refused") {
  const TemporaryDirectory folder;
  CHECK_THROWS_WITH(GgufFile::open((folder.path() / "none").string()), ContainsSubstring("No such file"));
  CHECK_THROWS_WITH(GgufFile::open(folder.path().string()), ContainsSubstring("is a folder, expected a file"));
  CHECK_THROWS_WITH(GgufFile::open("/dev/null"), ContainsSubstring("is no file, expected a file"));
  write_file(folder.path() / "empty", "");
  CHECK_THROWS_WITH(GgufFile::open((folder.path() / "empty").string()), ContainsSubstring("is empty"));
}

TEST_CASE("gguf: real files") {
  const auto shared = shared_dir();
  if (!shared) return skip("needs ../shared/models");
  const auto folder = *shared / "models/stories260K/gguf";
  for (const char* type : {"f32", "f16", "q8_0", "q4_0"}) {
    const auto file = GgufFile::open((folder / ("stories260K-" + std::string(type) + ".gguf")).string());
    CHECK(file->tensors().size() == 47);
    CHECK(file->require<int64_t>("llama.block_count") == 5);
    CHECK(file->require<std::vector<std::string>>("tokenizer.ggml.tokens").size() == 512);
  }
}
