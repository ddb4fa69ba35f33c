#include "serve/respond.h"

#include <nlohmann/json.hpp>

#include "generate/request.h"
#include "serve/engine_thread.h"
#include "serve/page.h"

namespace lathe {

void respond_json(Exchange& exchange, const nlohmann::ordered_json& json, int status) {
  exchange.respond(status, dump_json(json));
}

void respond_error(Exchange& exchange, const ApiError& e) {
  const bool anthropic = exchange.request.path.starts_with("/v1/messages");
  HttpHeaders headers;
  if (e.status() == 429 || e.status() == 503) headers.emplace_back("Retry-After", "1");
  if (e.status() == 401)
    headers.emplace_back("WWW-Authenticate",
                         is_page(exchange.request.path) ? R"(Basic realm="lathe", charset="UTF-8")" : "Bearer");
  exchange.respond(e.status(), dump_json(anthropic ? e.anthropic() : e.openai()), std::move(headers));
}

ApiError api_error(const std::exception& e) {
  if (const auto* ours = dynamic_cast<const ApiError*>(&e)) return *ours;
  if (const auto* request = dynamic_cast<const RequestError*>(&e)) return {400, request->what(), request->field()};
  if (const auto* busy = dynamic_cast<const BusyError*>(&e)) return {429, busy->what()};
  if (const auto* error = dynamic_cast<const Error*>(&e))
    return {400, error->hint().empty() ? error->what() : fmt::format("{}; {}", error->what(), error->hint())};
  return {500, e.what()};
}

}  // namespace lathe
