// A GGUF model in parts: read whole whichever part is named; what does not fit together is refused by its name.
#include <cstring>
#include <filesystem>

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

// Three parts, the first without tensors, as gguf-split --no-tensor-first-split leaves it.
struct Parts {
  TemporaryDirectory folder;
  std::string stem = (folder.path() / "m").string();

  B part(uint16_t number, uint16_t count = 3, int32_t tensors = 3) const {
    B b;
    if (number == 0) b.entry("general.architecture", "llama").entry("llama.block_count", 7u);
    return b.entry("split.no", B::u16, B::bytes_of(number))
        .entry("split.count", B::u16, B::bytes_of(count))
        .entry("split.tensors.count", B::i32, B::bytes_of(tensors));
  }
  std::string name(int64_t number) const { return GgufPartName{stem, number, 3}.of(number); }
  void write(int64_t number, const B& b) const { write_file(name(number), b.build()); }
  Parts() {
    write(1, part(0));
    write(2, part(1).tensor("a", {4}, 0, counting_floats(4)).tensor("b", {2}, 0, counting_floats(2)));
    write(3, part(2).tensor("c", {3}, 0, counting_floats(3)));
  }
};

}  // namespace

TEST_CASE("gguf parts: whichever is named, all are read") {
  const Parts parts;
  CHECK(parts.name(2).ends_with("/m-00002-of-00003.gguf"));
  for (int64_t named = 1; named <= 3; ++named) {
    const auto file = GgufFile::open(parts.name(named));
    CHECK(file->path() == parts.name(1));
    CHECK(file->paths() == std::vector<std::string>{parts.name(1), parts.name(2), parts.name(3)});
    CHECK(file->require<int64_t>("llama.block_count") == 7);
    REQUIRE(file->tensors().size() == 3);
    CHECK(file->tensors()[2].name == "c");
    float last = 0;
    std::memcpy(&last, file->tensors()[2].data + 8, 4);
    CHECK(last == 2.0f);
  }
}

TEST_CASE("gguf parts: a file that is all of its parts has any name") {
  const Parts parts;
  write_file(parts.stem, parts.part(0, 1, 1).tensor("a", {1}, 0, counting_floats(1)).build());
  CHECK(GgufFile::open(parts.stem)->tensors().size() == 1);
}

TEST_CASE("gguf parts: what does not fit together is refused") {
  const Parts parts;
  const auto refused = [&](int64_t named, const std::string& text) {
    CHECK_THROWS_WITH(GgufFile::open(parts.name(named)), ContainsSubstring(text));
  };
  SECTION("a part that is missing") {
    std::filesystem::remove(parts.name(1));
    refused(3, "is one of 3 parts of a split model; missing: " + parts.name(1));
  }
  SECTION("a part under another name") {
    std::filesystem::rename(parts.name(2), parts.stem + ".gguf");
    CHECK_THROWS_WITH(GgufFile::open(parts.stem + ".gguf"),
                      ContainsSubstring("is part 2 of 3 of a split model, but its name does not end in "
                                        "-00002-of-00003.gguf"));
  }
  SECTION("parts that have changed their places") {
    parts.write(2, parts.part(2));
    refused(1, "is part 3 of 3 of a split model");
  }
  SECTION("a part of a whole of other parts") {
    parts.write(3, parts.part(2, 4).tensor("c", {3}, 0, counting_floats(3)));
    refused(1, "is part 3 of 4");
  }
  SECTION("a part that is whole by itself") {
    B b;
    parts.write(3, b.tensor("c", {3}, 0, counting_floats(3)));
    refused(1, "metadata 'split.count' is missing");
  }
  SECTION("a tensor in two parts") {
    parts.write(3, parts.part(2).tensor("a", {3}, 0, counting_floats(3)));
    refused(1, "tensor 'a' is in two parts");
  }
  SECTION("fewer tensors than promised") {
    parts.write(3, parts.part(2));
    refused(2, "promises 3 tensors in all parts, found 2");
  }
}
