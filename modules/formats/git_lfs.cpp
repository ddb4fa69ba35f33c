#include "formats/git_lfs.h"

#include "tensor/errors.h"

namespace lathe {

void refuse_git_lfs_pointer(std::string_view bytes, const std::string& path) {
  constexpr size_t kLongest = 1024;  // the specification's bound, and what tells a pointer from a text about pointers
  // The second is what it was before it had its name.
  if (bytes.size() > kLongest || (!bytes.starts_with("version https://git-lfs.github.com/spec/") &&
                                  !bytes.starts_with("version https://hawser.github.com/spec/")))
    return;
  throw Error(fmt::format("open: {} is a git-lfs pointer to the file, not the file itself", path),
              "git lfs pull, in the repository that it is from, fetches the files; so does hf download");
}

}  // namespace lathe
