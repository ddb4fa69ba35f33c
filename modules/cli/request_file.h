// The JSON Lines file of `lathe generate --batch`: one request a line.
#pragma once
#include <string>
#include <vector>

#include "cli/request_options.h"

namespace lathe {

struct PromptedRequest {
  Prompt prompt;
  RequestOptions options;
  std::string where;  // "F.jsonl: line 3"; empty for the command line's own
};

// Each line holds one of prompt, messages and tokens, and any option of the command; what a line does not name is as in
// `defaults`. Throws Error naming the file and the line.
std::vector<PromptedRequest> read_requests(const std::string& path, const RequestOptions& defaults);

}  // namespace lathe
