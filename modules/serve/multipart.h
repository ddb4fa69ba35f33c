// multipart/form-data (RFC 7578, over RFC 2046 section 5.1): what a form with a file sends.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace lathe {

struct FormPart {
  std::string name;
  std::string filename;   // empty: none was given
  std::string_view data;  // a part of the body
};

// The parts of a body whose header Content-Type is `content_type`. Throws ApiError saying what is wrong.
std::vector<FormPart> parse_form(const std::string& content_type, std::string_view body);

}  // namespace lathe
