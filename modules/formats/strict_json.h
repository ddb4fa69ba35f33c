// JSON from files of strangers.
#pragma once
#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace lathe {

// Parses one JSON document. Throws Error naming `source` on a syntax error (with its position), invalid UTF-8, a number
// beyond float64, a key that appears twice in an object, or nesting deeper than `max_depth`. A byte order mark at the
// beginning is left out.
nlohmann::json parse_strict_json(std::string_view text, const std::string& source, int max_depth = 64);
// The same with the keys in their order, for what a template may print.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& source, int max_depth = 64);

// The same for a file. Throws Error also when it cannot be read or is larger than `max_bytes`.
nlohmann::json read_strict_json(const std::string& path, size_t max_bytes = size_t{100} << 20);

// JSON Lines: calls `f` with each line that holds something, and its number from 1. Lines end in LF or CRLF, which is
// left out, as is a byte order mark on a line of its own.
void for_each_text_line(std::string_view text, const std::function<void(std::string_view line, int64_t number)>& f);

// JSON Lines: calls `f` with each document and where it stands, "source: line 3". An Error of `f` that does not begin
// with that place is given it.
void for_each_json_line(std::string_view text, const std::string& source,
                        const std::function<void(const nlohmann::ordered_json& value, const std::string& where)>& f);

// "parse error at line 3, column 7: unexpected ']'" (the line where there are several): what a parser that stopped
// behind `byte` bytes of `text` has to say.
std::string parse_problem(std::string_view text, size_t byte);

}  // namespace lathe
