#include "text/tokenizer/post_processor.h"

#include <nlohmann/json.hpp>

#include "formats/quote.h"

namespace lathe {
namespace {

int32_t id_of(const JsonNode& node) {
  const int64_t id = node.integer();
  if (id < 0 || id > INT32_MAX) node.fail(fmt::format("id {} is out of range", id));
  return static_cast<int32_t>(id);
}

SpecialTokensAround read_template(const JsonNode& node) {
  SpecialTokensAround around;
  const JsonNode pieces = node.at("single");
  bool text_seen = false;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const JsonNode piece = pieces.at(i);
    if (piece.has("Sequence")) {
      if (text_seen || piece.at("Sequence").at("id").string() != "A")
        piece.fail("expected a template that holds sequence A exactly once");
      text_seen = true;
    } else {
      const std::string name = piece.at("SpecialToken").at("id").string();
      const JsonNode ids = node.at("special_tokens").at(name).at("ids");
      for (size_t k = 0; k < ids.size(); ++k) (text_seen ? around.after : around.before).push_back(id_of(ids.at(k)));
    }
  }
  if (!text_seen) pieces.fail("expected a template that holds sequence A exactly once");
  return around;
}

}  // namespace

SpecialTokensAround read_post_processor(const JsonNode& node) {
  if (node.value().is_null()) return {};
  const std::string type = node.at("type").string();
  if (type == "ByteLevel") return {};  // adjusts offsets only
  if (type == "TemplateProcessing") return read_template(node);
  if (type == "BertProcessing" || type == "RobertaProcessing")  // ["[CLS]", 101]
    return {{id_of(node.at("cls").at(1))}, {id_of(node.at("sep").at(1))}};
  if (type == "Sequence") {
    const JsonNode parts = node.at("processors");
    SpecialTokensAround around;
    for (size_t i = 0; i < parts.size(); ++i) {  // each one works on what the one before has made
      const SpecialTokensAround part = read_post_processor(parts.at(i));
      around.before.insert(around.before.begin(), part.before.begin(), part.before.end());
      around.after.insert(around.after.end(), part.after.begin(), part.after.end());
    }
    return around;
  }
  node.fail(fmt::format("post_processor type {} is not supported", quote(type)),
            "supported: Sequence, TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing");
}

}  // namespace lathe
