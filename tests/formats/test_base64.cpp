// Base64: the vectors of RFC 4648, section 10, and what is refused.
#include "formats/base64.h"
#include "tests/catch.h"

using lathe::decode_base64;

TEST_CASE("base64 is decoded") {
  CHECK(decode_base64("") == "");
  CHECK(decode_base64("Zg==") == "f");
  CHECK(decode_base64("Zm8=") == "fo");
  CHECK(decode_base64("Zm9vYmFy") == "foobar");
  CHECK(decode_base64("AP/+") == std::string("\0\xFF\xFE", 3));
}

TEST_CASE("what is not base64 is refused") {
  for (const char* text : {"Z", "Zg", "Zg=", "Zg===", "Z===", "====", "Zg==Zg==", "Zm9v\nZm9v", "Zm-_", "Zm9 "})
    CHECK_FALSE(decode_base64(text));
}

TEST_CASE("what is encoded decodes to itself, for every byte and length") {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    CHECK(decode_base64(lathe::encode_base64(bytes)) == bytes);
    bytes += static_cast<char>(i * 7);
  }
  CHECK(lathe::encode_base64("foob") == "Zm9vYg==");
  CHECK(lathe::encode_base64("fooba") == "Zm9vYmE=");
}
