// /tokenize, /detokenize, /render, /tokenizer_info, and what /v1/models says of a model.
#include <nlohmann/json.hpp>
#include <optional>

#include "serve/chat_fields.h"
#include "serve/chat_messages.h"
#include "serve/endpoints.h"
#include "serve/openai_answer.h"

namespace lathe {
namespace {

using InfoJson = nlohmann::ordered_json;

InfoJson token_texts(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  InfoJson list = InfoJson::array();
  for (const int32_t id : ids) list.push_back(tokenizer.token_text(id));
  return list;
}

// A conversation as a chat would be given it; nothing where there are no messages.
std::optional<ChatPrompt> read_messages(RequestFields& fields, const ServedModel& model) {
  if (!fields.given("messages")) {
    fields.ignore({"tools", "chat_template_kwargs", "add_generation_prompt"});
    return std::nullopt;
  }
  ChatPrompt chat(model);
  fields.read("messages", [&](const OrderedJsonNode& node) { chat.take_messages(chat_messages(node)); });
  chat.read_arguments(fields);
  read_chat_tools(fields, chat);
  return chat;
}

}  // namespace

std::vector<int32_t> read_text(RequestFields& fields, const ServedModel& model) {
  EncodeOptions options;
  options.add_special_tokens = fields.flag("add_special_tokens", true);
  std::optional<std::vector<int32_t>> ids;
  fields.read("tokens", [&](const OrderedJsonNode& node) { ids = read_ids(node); });
  fields.read("prompt", [&](const OrderedJsonNode& node) { ids = model.tokenizer().encode(node.string(), options); });
  if (const auto chat = read_messages(fields, model)) ids = chat->encode();
  if (!ids || ids->empty()) throw ApiError(400, "prompt, messages or tokens is missing, or has no token", "prompt");
  return *ids;
}

InfoJson tokenize(const ServedModel& model, const OrderedJsonNode& body) {
  RequestFields fields(body);
  const std::vector<int32_t> ids = read_text(fields, model);
  const bool texts = fields.flag("return_token_strs", false);
  fields.finish();
  InfoJson json = {{"count", ids.size()}, {"max_model_len", model.engine.longest_sequence()}, {"tokens", ids}};
  if (texts) json["token_strs"] = token_texts(model.tokenizer(), ids);
  return json;
}

InfoJson render(const ServedModel& model, const OrderedJsonNode& body) {
  RequestFields fields(body);
  const auto chat = read_messages(fields, model);
  fields.finish();
  if (!chat) throw ApiError(400, "messages is missing", "messages");
  return {{"prompt", chat->render()}};
}

InfoJson detokenize(const ServedModel& model, const OrderedJsonNode& body) {
  RequestFields fields(body);
  std::vector<int32_t> ids;
  fields.read("tokens", [&](const OrderedJsonNode& node) { ids = read_ids(node); });
  if (!fields.given("tokens")) throw ApiError(400, "tokens is missing", "tokens");
  fields.finish();
  return {{"prompt", model.tokenizer().decode(ids)}};
}

InfoJson tokenizer_info(const ServedModel& model) {
  const Tokenizer& tokenizer = model.tokenizer();
  const auto text = [&](const std::optional<int32_t>& id) {
    return id ? InfoJson(tokenizer.token_text(*id)) : InfoJson(nullptr);
  };
  InfoJson json = {{"tokenizer_class", tokenizer.kind()}, {"vocab_size", tokenizer.vocab_size()}};
  for (const auto& [name, spelling] : tokenizer.named_tokens()) json[name] = spelling;
  json["bos_token"] = text(tokenizer.bos());
  json["eos_token"] = text(tokenizer.eos());
  if (!json.contains("pad_token")) json["pad_token"] = nullptr;
  json["chat_template"] = tokenizer.chat_template() ? InfoJson(*tokenizer.chat_template()) : InfoJson(nullptr);
  return json;
}

InfoJson describe_model(const ServedModel& model) {
  InfoJson json = {{"id", model.id}, {"object", "model"}, {"created", model.created}, {"owned_by", "lathe"}};
  if (model.engine.state() != EngineThread::State::ready) return json;
  if (model.base) json["parent"] = model.base->id;
  if (!model.adapters.empty()) json["adapters"] = model.adapters;
  const LoadedModel& loaded = model.chat().loaded();
  const SamplingParameters defaults = model.chat().request({0}).sampling;
  InfoJson sampling = InfoJson::object();
  SamplingChoices any;
  SamplingChoices::visit(any, [&](const auto&, const OptionFacts& facts, auto parameter) {
    if constexpr (std::is_arithmetic_v<std::decay_t<decltype(defaults.*parameter)>>)
      sampling[facts.name] = defaults.*parameter;
  });
  json["max_model_len"] = model.engine.longest_sequence();
  json["architecture"] = loaded.model->sizes.architecture;
  json["dtype"] = name(loaded.weight_dtype);
  json["default_sampling"] = sampling;
  json["chat"] = model.chat().has_chat_template();
  return json;
}

}  // namespace lathe
