// CSV by RFC 4180, and the files of HellaSwag and MMLU: what is read, and how what is broken is named.
#include "evaluate/csv.h"
#include "evaluate/multiple_choice.h"
#include "tensor/errors.h"
#include "tests/catch.h"
#include "tests/support.h"

using namespace lathe;
using Catch::Matchers::ContainsSubstring;
using CsvRows = std::vector<std::vector<std::string>>;

namespace {

CsvRows csv(const std::string& text) {
  CsvRows rows;
  for (const CsvRow& row : parse_csv(text, "x.csv")) rows.push_back(row.fields);
  return rows;
}

// A folder whose files can be read by name.
struct Folder {
  test::TemporaryDirectory directory;
  std::string write(const std::string& name, const std::string& text) const {
    test::write_file(directory.path() / name, text);
    return (directory.path() / name).string();
  }
};

const std::string kTask = "A man sits. he\n2\nstands.\nruns.\nsings.\nsleeps.\n";
const std::string kHeader = "question,choice0,choice1,choice2,choice3,answer\n";

}  // namespace

TEST_CASE("CSV fields in quotes hold commas, line ends and quotes") {
  CHECK(csv("").empty());
  CHECK(csv("a") == CsvRows{{"a"}});
  CHECK(csv("a,b\nc,d\n") == CsvRows{{"a", "b"}, {"c", "d"}});
  CHECK(csv("a,b\r\nc,d") == CsvRows{{"a", "b"}, {"c", "d"}});
  CHECK(csv(",\n,,") == CsvRows{{"", ""}, {"", "", ""}});
  CHECK(csv("\"a,b\",c") == CsvRows{{"a,b", "c"}});
  CHECK(csv("\"a\nb\",\"c\r\nd\"\ne,f") == CsvRows{{"a\nb", "c\r\nd"}, {"e", "f"}});
  CHECK(csv("\"say \"\"hi\"\"\",\"\"\"\"") == CsvRows{{"say \"hi\"", "\""}});
  CHECK(csv("\"\",x") == CsvRows{{"", "x"}});
  CHECK(csv(" a , b ") == CsvRows{{" a ", " b "}});
  CHECK(csv("\n\na\n\n\nb\n\n") == CsvRows{{"a"}, {"b"}});
  CHECK(csv("\xef\xbb\xbf\"a\",b") == CsvRows{{"a", "b"}});
  CHECK(csv("caf\xc3\xa9,\xf0\x9f\x98\x80") == CsvRows{{"caf\xc3\xa9", "\xf0\x9f\x98\x80"}});
}

TEST_CASE("a CSV row knows the line it begins on") {
  const std::vector<CsvRow> rows = parse_csv("a\n\"b\nb\"\n\nc", "x.csv");
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].line == 1);
  CHECK(rows[1].line == 2);
  CHECK(rows[2].line == 5);
}

TEST_CASE("broken CSV is named by line") {
  CHECK_THROWS_WITH(csv("a\nb\"c"), "x.csv: line 2: a quote inside a field that does not begin with one");
  CHECK_THROWS_WITH(csv("a\n\"b\"c"), "x.csv: line 2: text after a closing quote");
  CHECK_THROWS_WITH(csv("a\n\"b\nc\nd"), "x.csv: line 2: a quote is never closed");
  CHECK_THROWS_WITH(csv("\""), "x.csv: line 1: a quote is never closed");
  CHECK_THROWS_WITH(csv("\"\"\""), "x.csv: line 1: a quote is never closed");
  CHECK_THROWS_WITH(csv("a,b\rc,d"), "x.csv: line 1: a carriage return without a line feed");
  CHECK_THROWS_WITH(csv("\"a\"\rb"), "x.csv: line 1: text after a closing quote");
}

TEST_CASE("a HellaSwag file is six lines a task") {
  const Folder folder;
  const auto file = read_hellaswag(folder.write("h.txt", kTask + "Two\n0\n\xc3\xa9tait\r\nb\r\nc\r\nd"));
  REQUIRE(file.tasks.size() == 2);
  CHECK(file.tasks[0].context == "A man sits. he");
  CHECK(file.tasks[0].label == 2);
  CHECK(file.tasks[0].choices == std::vector<std::string>{" stands.", " runs.", " sings.", " sleeps."});
  CHECK(file.tasks[0].lengths == std::vector<int64_t>{7, 5, 6, 7});
  CHECK(file.tasks[1].line == 7);
  CHECK(file.tasks[1].choices[0] == " \xc3\xa9tait");
  CHECK(file.tasks[1].lengths[0] == 5);  // characters, not bytes
  CHECK(read_hellaswag(folder.write("h.txt", kTask + "\n\n")).tasks.size() == 1);
}

TEST_CASE("a broken HellaSwag file is named by line") {
  const Folder folder;
  const auto read = [&](const std::string& text) { return read_hellaswag(folder.write("h.txt", text)); };
  CHECK_THROWS_WITH(read(kTask + "Two\n0\na\n"), ContainsSubstring("h.txt: line 7: a task has 6 lines, found 3"));
  CHECK_THROWS_WITH(read(kTask + "Two\n4\na\nb\nc\nd\n"), ContainsSubstring("h.txt: line 8: expected the index"));
  CHECK_THROWS_WITH(read(kTask + "Two\nx\na\nb\nc\nd\n"), ContainsSubstring("found \"x\""));
  CHECK_THROWS_WITH(read("Two\n0\na\n\nc\nd\n"), ContainsSubstring("h.txt: line 4: expected text, found an empty"));
  CHECK_THROWS_WITH(read(""), ContainsSubstring("h.txt"));
  CHECK_THROWS_WITH(read_hellaswag("/nowhere/h.txt"), ContainsSubstring("/nowhere/h.txt"));
}

TEST_CASE("an MMLU question stands after its examples in the prompt that is in use") {
  const Folder folder;
  const std::string dev = folder.write("big_bang_dev.csv", kHeader + "One?,a,b,c,d,1\n\"Two,\n2?\",e,f,g,h,3\n");
  const std::string test = folder.write("big_bang_test.csv", kHeader + " Three? ,i,\"j\"\"\",k,l,2\nFour?,m,n,o,p,0\n");
  const std::string head = "The following are multiple choice questions (with answers) about big bang.\n\n";
  const std::string one = "One?\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\n";
  const std::string two = "Two,\n2?\nA. e\nB. f\nC. g\nD. h\nAnswer: D\n\n";
  const std::string three = "Three?\nA. i\nB. j\"\nC. k\nD. l\nAnswer:";
  const auto file = read_mmlu(test);
  CHECK(file.shots == 2);  // there are no more
  REQUIRE(file.tasks.size() == 2);
  CHECK(file.tasks[0].context == head + one + two + three);
  CHECK(file.tasks[0].label == 2);
  CHECK(file.tasks[0].choices == std::vector<std::string>{" A", " B", " C", " D"});
  CHECK(file.tasks[1].line == 3);
  CHECK(read_mmlu(test, 1).tasks[0].context == head + one + three);
  CHECK(read_mmlu(test, 0).tasks[0].context == head + three);
  CHECK_THROWS_WITH(read_mmlu(test, 3), ContainsSubstring("has 2 examples, 3 are wanted"));
  // As first published: no header, letters.
  CHECK(read_mmlu(folder.write("lone_test.csv", "Three?,i,\"j\"\"\",k,l,C\n")).tasks[0].label == 2);
  CHECK(read_mmlu(folder.write("lone_test.csv", "Q,i,j,k,l,A\n")).shots == 0);
  CHECK_THROWS_WITH(read_mmlu((folder.directory.path() / "lone_test.csv").string(), 5),
                    ContainsSubstring("lone_dev.csv"));
}

TEST_CASE("a broken MMLU file is named by line") {
  const Folder folder;
  const auto read = [&](const std::string& text) { return read_mmlu(folder.write("a_test.csv", text)); };
  CHECK_THROWS_WITH(read(kHeader + "Q,1,2,3,4\n"), ContainsSubstring("a_test.csv: line 2: expected 6 fields"));
  CHECK_THROWS_WITH(read(kHeader + "Q,1,2,3,4,4\n"), ContainsSubstring("line 2: expected 0 to 3 or A to D"));
  CHECK_THROWS_WITH(read(kHeader + "Q,1,2,3,4,\n"), ContainsSubstring("found \"\""));
  CHECK_THROWS_WITH(read(kHeader), ContainsSubstring("a_test.csv: no questions"));
  CHECK_THROWS_WITH(read(kHeader + "Q,\"1\n"), ContainsSubstring("a_test.csv: line 2: a quote is never closed"));
}
