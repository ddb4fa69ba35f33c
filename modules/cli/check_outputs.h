// No file that a command writes is one that it reads.
#pragma once
#include <string>
#include <vector>

namespace lathe {

// `arguments`: the command line. Throws Error where the file of --output or --profile is, under the same name or
// another one, a file that another argument names. What lies in a model's folder is checked when the model is open.
void check_outputs(const std::vector<std::string>& arguments);

}  // namespace lathe
