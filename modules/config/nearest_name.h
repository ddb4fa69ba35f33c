// "Did you mean ...": the name in a list that is nearest to a misspelt one.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

// The candidate with the smallest edit distance (Levenshtein 1966) to `name`, the first of equals; none when every
// distance is more than a third of the longer name's length: then it is another name, not a misspelling.
std::optional<std::string> nearest_name(std::string_view name, const std::vector<std::string>& candidates);

}  // namespace lathe
