// Whole responses as the APIs shape them.
#pragma once
#include <exception>
#include <nlohmann/json_fwd.hpp>

#include "serve/api_error.h"
#include "serve/http_server.h"

namespace lathe {

void respond_json(Exchange& exchange, const nlohmann::ordered_json& json, int status = 200);
// In Anthropic's shape for paths of its API, in OpenAI's for all others.
void respond_error(Exchange& exchange, const ApiError& error);
// Whatever was thrown, as the API says it.
ApiError api_error(const std::exception& e);

}  // namespace lathe
