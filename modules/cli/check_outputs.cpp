#include "cli/check_outputs.h"

#include "formats/atomic_file.h"

namespace lathe {

void check_outputs(const std::vector<std::string>& arguments) {
  // "--name value" and "--name=value" alike: what may be a file's name, in its place; options themselves are none.
  std::vector<std::string> values;
  std::vector<size_t> outputs;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const size_t equals = argument.starts_with("--") ? argument.find('=') : std::string::npos;
    const std::string option = argument.substr(0, equals);
    const bool inside = equals != std::string::npos;
    values.push_back(inside ? argument.substr(equals + 1) : argument);
    if (option == "--output" || option == "--profile") outputs.push_back(inside ? i : i + 1);
  }
  for (const size_t at : outputs) {
    if (at >= values.size()) continue;  // --profile may stand alone
    std::vector<std::string> others = values;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(at));
    check_not_input(values[at], others);
  }
}

}  // namespace lathe
