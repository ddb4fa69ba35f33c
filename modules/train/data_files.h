// The files that a recipe names, in the order in which they are read.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "train/recipe.h"

namespace lathe {

struct DataFile {
  enum class Kind : uint8_t { text, lines, ids };  // .txt (and .md), .jsonl, .npy
  std::string path;
  Kind kind;
};

// Files as they are, folders by all that lies in and below them and ends so, in the order of the paths. Throws Error
// for what does not exist, ends otherwise, a folder without such files, and for ids beside text.
std::vector<DataFile> list_data_files(const std::vector<std::string>& paths);

// Calls `f` with each text that may be learnt from, once or more. Throws Error naming the file and the byte or the line
// that cannot be read.
void for_each_text(const std::vector<DataFile>& files, bool skip_bad_lines,
                   const std::function<void(std::string_view)>& f);

}  // namespace lathe
