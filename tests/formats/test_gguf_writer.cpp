// Writing GGUF: what is written is read back, with the number types that readers ask for.
#include <cstring>

#include "formats/gguf.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

OutgoingTensor outgoing(const std::string& name, const Tensor& tensor) {
  return {name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, [=] { return tensor; }};
}

}  // namespace

TEST_CASE("gguf writer: metadata and tensors come back") {
  const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.gguf").string();
  const float values[] = {1, 2, 3, 4, 5, 6};
  Tensor blocks = Tensor::zeros({2, 32}, DType::q8_0);
  std::memset(blocks.raw(), 7, blocks.bytes());
  write_gguf(path,
             {{"general.architecture", std::string("x")},
              {"count", int64_t{4'000'000'000}},
              {"negative", int64_t{-3}},
              {"wide", int64_t{1} << 40},
              {"number", 0.5},
              {"yes", true},
              {"ids", std::vector<int64_t>{1, -2}},
              {"wide_ids", std::vector<int64_t>{int64_t{1} << 40}},
              {"scores", std::vector<double>{-1.5, 2}},
              {"flags", std::vector<bool>{true, false}},
              {"texts", std::vector<std::string>{"", "two\n"}}},
             {outgoing("a.weight", Tensor::of<float>({2, 3}, values)), outgoing("b", blocks)});
  const auto file = GgufFile::open(path);
  CHECK(file->version() == 3);
  CHECK(file->require<int64_t>("count") == 4'000'000'000);
  CHECK(file->require<int64_t>("negative") == -3);
  CHECK(file->require<int64_t>("wide") == int64_t{1} << 40);
  CHECK(file->require<double>("number") == 0.5);
  CHECK(file->require<bool>("yes"));
  CHECK(file->require<std::vector<int64_t>>("ids") == std::vector<int64_t>{1, -2});
  CHECK(file->require<std::vector<int64_t>>("wide_ids") == std::vector<int64_t>{int64_t{1} << 40});
  CHECK(file->require<std::vector<double>>("scores") == std::vector<double>{-1.5, 2});
  CHECK(file->require<std::vector<bool>>("flags") == std::vector<bool>{true, false});
  CHECK(file->require<std::vector<std::string>>("texts") == std::vector<std::string>{"", "two\n"});
  REQUIRE(file->tensors().size() == 2);
  CHECK(file->tensors()[0].shape == std::vector<int64_t>{2, 3});
  CHECK(std::memcmp(file->tensors()[0].data, values, sizeof values) == 0);
  CHECK(file->tensors()[1].type_name == "Q8_0");
  CHECK(std::memcmp(file->tensors()[1].data, blocks.raw(), blocks.bytes()) == 0);
}

TEST_CASE("gguf writer: what the format cannot hold is refused, and no file is left") {
  const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.gguf").string();
  CHECK_THROWS_WITH(write_gguf(path, {}, {outgoing("a", Tensor::zeros({2}, DType::f64))}),
                    ContainsSubstring("tensor 'a' is f64"));
  CHECK_THROWS_WITH(write_gguf(path, {{"k", true}, {"k", false}}, {}), ContainsSubstring("'k' is written twice"));
  const OutgoingTensor a = outgoing("a", Tensor::zeros({2}));
  CHECK_THROWS_WITH(write_gguf(path, {}, {a, a}), ContainsSubstring("'a' is taken"));
  OutgoingTensor failing = a;
  failing.value = []() -> Tensor { throw Error("the source broke"); };
  CHECK_THROWS_WITH(write_gguf(path, {}, {failing}), ContainsSubstring("the source broke"));
  CHECK_THROWS_WITH(write_gguf(path, {{"wide", 1e39}}, {a}),
                    ContainsSubstring("metadata 'wide' is 1e+39, beyond the range of f32"));
  CHECK_THROWS_WITH(write_gguf(path, {{"list", std::vector<double>{0, -1e39}}}, {a}), ContainsSubstring("'list'"));
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("gguf writer: what is written is read before it has its name") {
  const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.gguf").string();
  const OutgoingTensor a = outgoing("a", Tensor::zeros({2}));
  write_file(path, "older");
  CHECK_THROWS_WITH(write_gguf(path, {}, {a}, [](const std::string&) { throw Error("not so"); }),
                    ContainsSubstring("not so"));
  CHECK(read_file(path) == "older");
  size_t tensors = 0;
  write_gguf(path, {}, {a}, [&](const std::string& written) {
    CHECK(written != path);
    tensors = GgufFile::open(written)->tensors().size();
  });
  CHECK(tensors == 1);
  CHECK(GgufFile::open(path)->tensors().size() == 1);
  CHECK_THROWS_WITH(write_gguf("/dev/null", {}, {a}, [](const std::string&) {}),
                    ContainsSubstring("is no regular file"));
}
