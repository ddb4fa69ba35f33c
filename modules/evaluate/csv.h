// CSV as RFC 4180 has it: fields in quotes may hold commas, line ends and doubled quotes.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct CsvRow {
  int64_t line = 0;  // where it begins, from 1
  std::vector<std::string> fields;
};

// Lines end with LF or CRLF; empty lines and a byte order mark at the start are passed over. Throws Error naming
// `source`, line and fact: a quote inside a field that is not quoted, text after a closing quote, a quote never closed,
// a lone carriage return.
std::vector<CsvRow> parse_csv(std::string_view text, const std::string& source);

}  // namespace lathe
