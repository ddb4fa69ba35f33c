#include "cli/request_file.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/model_options.h"
#include "formats/strict_json.h"
#include "text/chat_template/messages.h"

namespace lathe {
namespace {

PromptedRequest read_request(const OrderedJsonNode& line, const std::string& where, const RequestOptions& defaults) {
  if (!line.value().is_object()) line.expected("an object");
  PromptedRequest request{{}, defaults, where};
  request.options.read(line);
  const bool tokens = line.has("tokens"), text = line.has("prompt"), messages = line.has("messages");
  if (tokens + text + messages != 1)
    line.fail(fmt::format("expected one of prompt, messages and tokens, found {}", tokens + text + messages));
  if (tokens) request.prompt.tokens = token_ids(line.at("tokens"));
  if (text) request.prompt.text = line.at("prompt").string();
  if (messages) {
    check_messages(line.at("messages").value(), line.at("messages").where());
    request.prompt.messages = line.at("messages").value();
  }
  return request;
}

}  // namespace

std::vector<PromptedRequest> read_requests(const std::string& path, const RequestOptions& defaults) {
  std::vector<PromptedRequest> requests;
  for_each_json_line(read_text(path), path, [&](const nlohmann::ordered_json& value, const std::string& where) {
    requests.push_back(read_request({value, where, ": "}, where, defaults));
  });
  check(!requests.empty(), "--batch", "{} holds no request", path);
  return requests;
}

}  // namespace lathe
