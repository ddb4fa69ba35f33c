#include "serve/page.h"

#include <algorithm>

namespace lathe {
namespace {

// The page runs what came with it and speaks to the server that it came from, whatever a model or a user writes.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

std::string content_type(std::string_view name) {
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".svg")) return "image/svg+xml";
  return "text/html; charset=utf-8";
}

}  // namespace

bool is_page(const std::string& path) { return path == "/" || path.starts_with("/page/"); }

bool respond_page(Exchange& exchange) {
  const std::string& path = exchange.request.path;
  if (!is_page(path)) return false;
  const std::string name = path == "/" ? "index.html" : path.substr(6);
  const auto found =
      std::find_if(page_files().begin(), page_files().end(), [&](const PageFile& f) { return f.name == name; });
  if (found == page_files().end()) return false;
  const HttpHeaders headers = {{"Content-Type", content_type(name)},  {"ETag", std::string(found->etag)},
                               {"Cache-Control", "no-cache"},         {"Content-Security-Policy", kPolicy},
                               {"X-Content-Type-Options", "nosniff"}, {"Referrer-Policy", "no-referrer"}};
  const bool known = exchange.request.header("if-none-match").find(found->etag) != std::string::npos;
  exchange.respond(known ? 304 : 200, known ? "" : std::string(found->text), headers);
  return true;
}

}  // namespace lathe
