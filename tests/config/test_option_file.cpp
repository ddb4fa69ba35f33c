// Options from a file: what stands there, in its order, and what is refused.
#include "config/option_file.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("options of a file are those of the command line, and a misspelt one is named") {
  const test::TemporaryDirectory folder;
  const std::string path = (folder.path() / "F.yaml").string();
  const auto read = [&](const std::string& text) {
    test::write_file(path, text);
    return read_option_file(path, {"port", "cors-origin", "always-usage"});
  };
  using Options = std::vector<std::pair<std::string, std::string>>;
  CHECK(read("port: 80\ncors-origin: [a, b]\nalways-usage: true  # why\n") ==
        Options{{"port", "80"}, {"cors-origin", "a"}, {"cors-origin", "b"}, {"always-usage", "true"}});
  CHECK_THROWS_WITH(read("port: 80\nprot: 81\n"), ContainsSubstring("F.yaml:2: the key 'prot' is not known"));
  CHECK_THROWS_WITH(read("port: 80\nport: 81\n"), ContainsSubstring("twice"));
  CHECK_THROWS_WITH(read("port: {a: b}\n"), ContainsSubstring("expected a string or a list of strings"));
  CHECK_THROWS_WITH(read("- port\n"), ContainsSubstring("expected keys and values"));
}
