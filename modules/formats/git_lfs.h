// What git-lfs leaves in a file's place until the file itself is fetched: a text of three lines (specification: git-lfs
// repository, docs/spec.md, "The Pointer").
#pragma once
#include <string>
#include <string_view>

namespace lathe {

// Throws Error naming `path` where `bytes`, a file's first ones or all of them, are such a pointer.
void refuse_git_lfs_pointer(std::string_view bytes, const std::string& path);

}  // namespace lathe
