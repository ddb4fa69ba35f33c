// The files that a recipe names, in the order in which they are read.
#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "train/recipe.h"

namespace lathe {

struct DataFile {
  enum class Kind : uint8_t { text, lines, ids };  // .txt, .md and what else is named; .jsonl; .npy
  std::string path;
  Kind kind;
};

// Files as they are, folders by all .txt, .md, .jsonl and .npy files in and below them, in the order of their paths.
// Throws Error for what does not exist, a .json file, a folder without such files, and for ids beside text.
std::vector<DataFile> list_data_files(const std::vector<std::string>& paths);

// Calls `f` with each text that may be learnt from, once or more. Throws Error naming the file and the byte or the line
// that cannot be read.
void for_each_text(const std::vector<DataFile>& files, bool skip_bad_lines,
                   const std::function<void(std::string_view)>& f);

}  // namespace lathe
