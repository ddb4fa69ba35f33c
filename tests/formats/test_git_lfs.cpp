// git-lfs pointers: known by what they hold, in every file that is mapped.
#include <nlohmann/json.hpp>

#include "formats/gguf.h"
#include "formats/git_lfs.h"
#include "formats/pytorch_file.h"
#include "formats/safetensors.h"
#include "formats/strict_json.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

const std::string kPointer =
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

}  // namespace

TEST_CASE("git-lfs: a pointer in the place of any file is named as one") {
  const TemporaryDirectory folder;
  const auto path = [&](const char* name) {
    write_file(folder.path() / name, kPointer);
    return (folder.path() / name).string();
  };
  const auto found = ContainsSubstring("is a git-lfs pointer to the file, not the file itself");
  CHECK_THROWS_WITH(MappedFile::open(path("model-00001-of-00002.safetensors")), found);
  CHECK_THROWS_WITH(read_safetensors(path("adapter.safetensors")), found);
  CHECK_THROWS_WITH(read_sharded_safetensors(path("model.safetensors.index.json")), found);
  CHECK_THROWS_WITH(read_pytorch_file(path("weights.bin")), found);
  CHECK_THROWS_WITH(GgufFile::open(path("q.gguf")), found);
  CHECK_THROWS_WITH(read_strict_json(path("generation_config.json")), found);
}

TEST_CASE("git-lfs: a text about pointers is none") {
  CHECK_NOTHROW(refuse_git_lfs_pointer(kPointer + std::string(1024, 'x'), "text"));
  CHECK_NOTHROW(refuse_git_lfs_pointer("# " + kPointer, "text"));
  CHECK_NOTHROW(refuse_git_lfs_pointer("", "text"));
  CHECK_THROWS_AS(refuse_git_lfs_pointer(kPointer.substr(0, 64), "text"), Error);  // its first bytes will do
}
