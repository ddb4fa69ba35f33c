// The endpoints that look at a body: each makes an answer, or a whole response, of it. All throw ApiError, and Error or
// RequestError where the library does. May be called from any thread.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "formats/json_node.h"
#include "serve/answer.h"
#include "serve/request_fields.h"

namespace lathe {

std::unique_ptr<Answer> make_completion(const ServedModel& model, const OrderedJsonNode& body);       // /v1/completions
std::unique_ptr<Answer> make_chat_completion(const ServedModel& model, const OrderedJsonNode& body);  // /v1/chat/...

std::unique_ptr<Answer> make_embedding(const ServedModel& model, const OrderedJsonNode& body);   // /v1/embeddings
std::unique_ptr<Answer> make_similarity(const ServedModel& model, const OrderedJsonNode& body);  // /v1/similarity

std::unique_ptr<Answer> make_message(const ServedModel& model, const OrderedJsonNode& body);   // /v1/messages
std::unique_ptr<Answer> make_response(const ServedModel& model, const OrderedJsonNode& body);  // /v1/responses

nlohmann::ordered_json count_message_tokens(const ServedModel& model, const OrderedJsonNode& body);
nlohmann::ordered_json count_response_tokens(const ServedModel& model, const OrderedJsonNode& body);
nlohmann::ordered_json render(const ServedModel& model, const OrderedJsonNode& body);
// The ids of the text that a body gives: as `tokens`, `prompt` or `messages`.
std::vector<int32_t> read_text(RequestFields& fields, const ServedModel& model);
nlohmann::ordered_json tokenize(const ServedModel& model, const OrderedJsonNode& body);
nlohmann::ordered_json detokenize(const ServedModel& model, const OrderedJsonNode& body);
nlohmann::ordered_json tokenizer_info(const ServedModel& model);
nlohmann::ordered_json describe_model(const ServedModel& model);  // an entry of /v1/models

}  // namespace lathe
