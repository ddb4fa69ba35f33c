// Patterns as tokenizer.json writes them, and what the components do with them.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

#include "formats/json_node.h"
#include "text/tokenizer/regex.h"

namespace lathe {

// {"String": "..."} taken literally, or {"Regex": "..."}.
Regex make_pattern(const JsonNode& node);

// What a text of so many bytes may become when a file's rules rewrite it; normal forms take 33 bytes for 3 at most.
constexpr size_t largest_rewritten(size_t bytes) { return 64 * bytes + (size_t{1} << 20); }

// Throws Error when the result would be larger than that.
std::string replace_all(std::string_view text, const Regex& pattern, std::string_view with);

// Where the run of white space that ends at `end` begins, and where the one that begins at `begin` ends.
size_t white_space_before(std::string_view text, size_t end);
size_t white_space_behind(std::string_view text, size_t begin);

// Whether the character before `position`, or the one at it, is part of a word (\w as Rust's regex crate has it).
bool word_character_before(std::string_view text, size_t position);
bool word_character_at(std::string_view text, size_t position);

}  // namespace lathe
