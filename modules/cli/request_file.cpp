#include "cli/request_file.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/model_options.h"

namespace lathe {
namespace {

using Json = nlohmann::ordered_json;

PromptedRequest read_request(const Json& line, const RequestOptions& defaults) {
  PromptedRequest request{{}, defaults};
  request.options.read(line);
  const bool tokens = line.contains("tokens"), text = line.contains("prompt"), messages = line.contains("messages");
  check(tokens + text + messages == 1, "request", "expected one of prompt, messages and tokens, found {}",
        tokens + text + messages);
  if (tokens) request.prompt.tokens = line["tokens"].get<std::vector<int32_t>>();
  if (text) request.prompt.text = line["prompt"].get<std::string>();
  if (messages) request.prompt.messages = line["messages"];
  return request;
}

}  // namespace

std::vector<PromptedRequest> read_requests(const std::string& path, const RequestOptions& defaults) {
  std::vector<PromptedRequest> requests;
  std::istringstream lines(read_text(path));
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.empty()) continue;
    try {
      requests.push_back(read_request(Json::parse(line), defaults));
    } catch (const std::exception& e) {
      throw Error(fmt::format("{}: line {}: {}", path, number, e.what()));
    }
  }
  check(!requests.empty(), "--batch", "{} holds no request", path);
  return requests;
}

}  // namespace lathe
