#include "serve/multipart.h"

#include <algorithm>
#include <optional>

#include "serve/api_error.h"

namespace lathe {
namespace {

constexpr size_t kMostParts = 32;

// `key="value"` or `key=value` among parameters behind semicolons; a backslash quotes the next character.
std::optional<std::string> parameter(std::string_view header, std::string_view key) {
  for (size_t at = header.find(';'); at < header.size();) {
    at = header.find_first_not_of("; \t", at);
    const size_t equals = std::min(header.find('=', at), header.size());
    const bool found = at < header.size() && header.substr(at, equals - at) == key;
    std::string value;
    at = equals + 1;
    if (at < header.size() && header[at] == '"') {
      for (++at; at < header.size() && header[at] != '"'; ++at) {
        if (header[at] == '\\' && at + 1 < header.size()) ++at;
        value += header[at];
      }
      at = header.find(';', at);
    } else if (at < header.size()) {
      const size_t end = std::min(header.find(';', at), header.size());
      value = header.substr(at, end - at);
      at = end;
    }
    if (found) return value;
  }
  return std::nullopt;
}

[[noreturn]] void fail(const std::string& what) { throw ApiError(400, "multipart/form-data: " + what); }

FormPart read_headers(std::string_view headers) {
  constexpr std::string_view kDisposition = "content-disposition:";
  while (!headers.empty()) {
    const std::string_view line = headers.substr(0, headers.find("\r\n"));
    headers.remove_prefix(std::min(headers.size(), line.size() + 2));
    if (line.size() < kDisposition.size() ||
        !std::equal(kDisposition.begin(), kDisposition.end(), line.begin(),
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b - 'A' + 'a' : b); }))
      continue;
    if (const auto name = parameter(line, "name")) return {*name, parameter(line, "filename").value_or(""), {}};
  }
  fail("a part has no name");
}

}  // namespace

std::vector<FormPart> parse_form(const std::string& content_type, std::string_view body) {
  if (!content_type.starts_with("multipart/form-data"))
    throw ApiError(400, fmt::format("expected a body of multipart/form-data, found {}", quote(content_type)));
  const std::string boundary = parameter(content_type, "boundary").value_or("");
  if (boundary.empty() || boundary.size() > 70) fail("its boundary must have 1 to 70 characters");
  const std::string mark = "--" + boundary, next = "\r\n" + mark;
  std::vector<FormPart> parts;
  size_t at = body.starts_with(mark) ? 0 : body.find(next);
  if (at == body.npos) fail("the boundary is not in the body");
  at += at == 0 ? 0 : 2;
  while (true) {
    at += mark.size();
    if (body.substr(at).starts_with("--")) return parts;
    at = std::min(body.find_first_not_of(" \t", at), body.size());
    if (!body.substr(at).starts_with("\r\n")) fail("no line ends behind a boundary");
    const size_t headers = body.find("\r\n\r\n", at),
                 begin = headers + 4;  // `at` may be the first of the two line ends
    const size_t end = headers == body.npos ? body.npos : body.find(next, headers + 2);
    if (end == body.npos || end < begin) fail("the last part is not closed");
    if (parts.size() == kMostParts) fail("too many parts");
    parts.push_back(read_headers(body.substr(at + 2, std::max(headers, at + 2) - at - 2)));
    parts.back().data = body.substr(begin, end - begin);
    at = end + 2;
  }
}

}  // namespace lathe
