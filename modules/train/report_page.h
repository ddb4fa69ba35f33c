// The page around charts and tables: one file that fetches nothing and reads without scripts, in light and dark, on
// paper and on a narrow screen.
#pragma once
#include <string>
#include <vector>

namespace lathe {

// `title` is text, `body` HTML.
std::string html_page(const std::string& title, const std::string& body);

// Charts of the same over different axes, one of them shown at a time: (button, chart), charts that are empty left out.
// `name` is the choice's own on its page.
struct ChartChoice {
  std::string button, chart;
};
std::string html_choice(const std::string& name, const std::vector<ChartChoice>& choices);

// Cells are HTML. `kind`: "figures" stand to the right but for the first column.
std::string html_table(const std::string& kind, const std::vector<std::string>& head,
                       const std::vector<std::vector<std::string>>& rows);

}  // namespace lathe
