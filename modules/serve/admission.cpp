#include "serve/admission.h"

#include <arpa/inet.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "formats/base64.h"
#include "formats/quote.h"
#include "serve/respond.h"

namespace lathe {
namespace {

// As long for a wrong key as for the right one.
bool same_text(const std::string& a, const std::string& b) {
  unsigned difference = a.size() != b.size();
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned char>(a[i] ^ (i < b.size() ? b[i] : ~a[i]));
  return difference == 0;
}

// Whether a Host is this machine's: a page of another name that resolves to it has its own name there. An address in
// numbers is resolved by nobody.
bool own_host(const std::string& host, const std::string& listens) {
  const std::string name = host.substr(0, host.starts_with('[') ? host.find(']') + 1 : host.find(':'));
  in_addr address{};
  return name == "localhost" || name == listens || name.starts_with('[') ||
         inet_pton(AF_INET, name.c_str(), &address) == 1;
}

// The key that a request brings; empty: none. A browser that asked for it sends it as the password of any user.
std::string given_key(const HttpRequest& r) {
  const std::string of = r.header("authorization");
  if (of.starts_with("Bearer ")) return of.substr(7);
  if (!of.starts_with("Basic ")) return r.header("x-api-key");
  const std::string text = decode_base64(of.substr(6)).value_or("");
  return text.substr(std::min(text.size(), text.find(':') + 1));
}

}  // namespace

int64_t key_index(const HttpRequest& request, const std::vector<std::string>& keys) {
  const std::string given = given_key(request);
  int64_t index = 0;
  for (size_t i = 0; i < keys.size(); ++i)
    if (same_text(keys[i], given)) index = static_cast<int64_t>(i) + 1;
  return index;
}

void admit(Exchange& exchange, const ServerOptions& options, size_t held_bytes) {
  const HttpRequest& r = exchange.request;
  if (const std::string origin = r.header("origin"); !origin.empty()) {
    const auto& allowed = options.cors_origins;
    const bool listed =
        std::any_of(allowed.begin(), allowed.end(), [&](const auto& o) { return o == "*" || o == origin; });
    const std::string host = r.header("host");
    const bool own = own_host(host, options.host) && (origin == "http://" + host || origin == "https://" + host);
    if (!listed && !own)
      return respond_error(exchange,
                           {403, fmt::format("pages of {} may not ask: --cors-origin allows them", quote(origin))});
    exchange.common_headers.emplace_back("Access-Control-Allow-Origin", origin);
    exchange.common_headers.emplace_back("Vary", "Origin");
  }
  if (r.method == "OPTIONS")
    return exchange.respond(204, "",
                            {{"Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"},
                             {"Access-Control-Allow-Headers", "*, Authorization"},
                             {"Access-Control-Max-Age", "600"}});
  const uint64_t bytes = std::strtoull(r.header("content-length").c_str(), nullptr, 10);
  if (bytes > options.http.body)
    return respond_error(exchange,
                         {413, fmt::format("the body has {} bytes, at most {} are read", bytes, options.http.body)});
  if (held_bytes + bytes > options.http.bodies)
    return respond_error(exchange, {429, "too many requests are being received"});
  if (options.api_keys.empty() || r.path.starts_with("/health")) return;
  if (key_index(r, options.api_keys) > 0) return;
  respond_error(exchange, {401,
                           given_key(r).empty() ? "an API key is needed: Authorization: Bearer KEY, or x-api-key: KEY"
                                                : "the API key is wrong",
                           {},
                           "invalid_api_key"});
}

}  // namespace lathe
