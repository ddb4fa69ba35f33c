#include "serve/api_error.h"

#include <nlohmann/json.hpp>

namespace lathe {
namespace {

struct ErrorType {
  int status;
  const char *openai, *anthropic;
};
constexpr ErrorType kErrorTypes[] = {
    {401, "authentication_error", "authentication_error"},
    {403, "permission_error", "permission_error"},
    {404, "not_found_error", "not_found_error"},
    {413, "invalid_request_error", "request_too_large"},
    {429, "rate_limit_error", "rate_limit_error"},
    {500, "server_error", "api_error"},
    {503, "server_error", "overloaded_error"},
    {504, "timeout_error", "timeout_error"},
};

ErrorType type_of(int status) {
  for (const ErrorType& type : kErrorTypes)
    if (type.status == status) return type;
  return {status, "invalid_request_error", "invalid_request_error"};
}

}  // namespace

nlohmann::ordered_json ApiError::openai() const {
  const auto text = [](const std::string& s) {
    return s.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(s);
  };
  return {{"error",
           {{"message", what()}, {"type", type_of(status_).openai}, {"param", text(field_)}, {"code", text(code_)}}}};
}

nlohmann::ordered_json ApiError::anthropic() const {
  return {{"type", "error"}, {"error", {{"type", type_of(status_).anthropic}, {"message", what()}}}};
}

std::string dump_json(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace lathe
