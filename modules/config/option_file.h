// A command's options in a YAML file: a key is an option's name without its dashes, a list repeats it.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace lathe {

// Names and values, a pair a value, in the order of the file. Throws Error naming file and line of a key that is not
// among `known`, with the nearest one that is, or that stands twice; and of a value that is no text or list of such.
std::vector<std::pair<std::string, std::string>> read_option_file(const std::string& path,
                                                                  const std::vector<std::string>& known);

}  // namespace lathe
