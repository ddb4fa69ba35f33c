// What a client did wrong or cannot have, in the shapes of the APIs.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "tensor/errors.h"

namespace lathe {

class ApiError : public Error {
 public:
  // `field`: the request's field that is to blame; empty: none.
  ApiError(int status, const std::string& message, std::string field = {}, std::string code = {})
      : Error(message), status_(status), field_(std::move(field)), code_(std::move(code)) {}
  int status() const { return status_; }
  const std::string& field() const { return field_; }
  const std::string& code() const { return code_; }

  // {"error": {"message", "type", "param", "code"}}
  nlohmann::ordered_json openai() const;
  // {"type": "error", "error": {"type", "message"}}
  nlohmann::ordered_json anthropic() const;

 private:
  int status_;
  std::string field_, code_;
};

// One line, whatever bytes its strings hold: those that are no UTF-8 become U+FFFD. No number is NaN or infinite: such
// are null.
std::string dump_json(const nlohmann::ordered_json& json);

}  // namespace lathe
