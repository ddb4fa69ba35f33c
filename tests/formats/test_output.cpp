// Output files: whole or not there; .npy as NumPy has it.
#include <sys/stat.h>

#include "formats/atomic_file.h"
#include "formats/npy.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using namespace lathe::test;
using Catch::Matchers::ContainsSubstring;

namespace {

size_t files_in(const std::filesystem::path& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

}  // namespace

TEST_CASE("atomic file: appears at the commit and replaces what was there") {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "out";
  write_file(path, "old");
  AtomicFile file(path.string());
  file.write("new");
  CHECK(read_file(path) == "old");
  file.commit();
  CHECK(read_file(path) == "new");
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("atomic file: without a commit nothing is left and the older file stays") {
  const TemporaryDirectory folder;
  const auto path = folder.path() / "out";
  write_file(path, "old");
  { AtomicFile(path.string()).write("half"); }
  CHECK(read_file(path) == "old");
  CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("atomic file: a link's target is replaced, a device is written directly") {
  const TemporaryDirectory folder;
  write_file(folder.path() / "real", "old");
  std::filesystem::create_symlink("real", folder.path() / "link");
  AtomicFile file((folder.path() / "link").string());
  file.write("new");
  file.commit();
  CHECK(std::filesystem::is_symlink(folder.path() / "link"));
  CHECK(read_file(folder.path() / "real") == "new");

  AtomicFile null("/dev/null");
  null.write("x");
  null.commit();
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("an output that is an input is refused, whatever it is called") {
  const TemporaryDirectory folder;
  const std::string model = (folder.path() / "model").string(), other = (folder.path() / "other").string();
  const auto refused = [&](const std::string& output, const std::string& text) {
    CHECK_THROWS_WITH(check_not_input(output, {other, model}), ContainsSubstring(text));
  };
  write_file(model, "weights");
  write_file(other, "weights");
  refused(model, "write: " + model + " is a file that is read");
  std::filesystem::create_hard_link(model, folder.path() / "hard");
  std::filesystem::create_symlink("hard", folder.path() / "soft");
  for (const char* link : {"hard", "soft"})
    refused((folder.path() / link).string(), "is the same file as " + model + ", which is read");
  refused((folder.path() / "." / "model").string(), "is the same file");
  CHECK_NOTHROW(check_not_input((folder.path() / "new").string(), {model}));
  CHECK_NOTHROW(check_not_input(other, {model}));  // the same bytes, another file
  CHECK_NOTHROW(check_not_input("/dev/null", {"/dev/null"}));
  CHECK_NOTHROW(check_not_input("", {model, ""}));
}

TEST_CASE("atomic file: what cannot be written is an error with its reason") {
  const TemporaryDirectory folder;
  CHECK_THROWS_WITH(AtomicFile((folder.path() / "no/out").string()), ContainsSubstring("No such file or directory"));
  CHECK_THROWS_WITH(AtomicFile(folder.path().string()), ContainsSubstring("Is a directory"));
  if (!std::filesystem::exists("/dev/full")) return;
  AtomicFile full("/dev/full");
  full.write("x");
  CHECK_THROWS_WITH(full.commit(), ContainsSubstring("/dev/full: No space left on device"));
}

TEST_CASE("npy: header and data are NumPy's") {
  const TemporaryDirectory folder;
  const std::string path = (folder.path() / "a.npy").string();
  const float values[] = {1, 2, 3, 4, 5, 6};
  const std::pair<Tensor, std::string> cases[] = {{Tensor::of({2, 3}, values), "(2, 3)"},
                                                  {Tensor::of({6}, values), "(6,)"},
                                                  {Tensor::of({1, 2, 3}, values), "(1, 2, 3)"}};
  for (const auto& [tensor, shape] : cases) {
    write_npy(path, tensor);
    const std::string bytes = read_file(path);
    CHECK(bytes.substr(0, 8) == std::string("\x93NUMPY\1\0", 8));
    const size_t length = static_cast<unsigned char>(bytes[8]) + 256 * static_cast<unsigned char>(bytes[9]);
    CHECK((10 + length) % 64 == 0);
    CHECK_THAT(bytes.substr(10, length),
               ContainsSubstring("{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }"));
    CHECK(bytes[10 + length - 1] == '\n');
    CHECK(bytes.substr(10 + length) == std::string(reinterpret_cast<const char*>(values), sizeof values));
  }
  CHECK_THROWS_WITH(write_npy(path, Tensor::empty({2}, DType::bf16)), ContainsSubstring("expected a contiguous f32"));
}
