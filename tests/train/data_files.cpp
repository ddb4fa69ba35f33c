#include "tests/train/data_files.h"

#include "tensor/errors.h"

namespace lathe::test {

std::string DataFolder::write(const std::string& name, std::string_view content) const {
  const std::filesystem::path path = folder.path() / name;
  std::filesystem::create_directories(path.parent_path());
  write_file(path, content);
  return path.string();
}

std::string DataFolder::refusal() const {
  try {
    open();
    return {};
  } catch (const Error& e) {
    return e.hint().empty() ? e.what() : std::string(e.what()) + " | " + e.hint();
  }
}

}  // namespace lathe::test
