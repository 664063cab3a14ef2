#include "train/data/documents.h"

#include <charconv>
#include <cstdio>

#include "sim/units/errors.h"

namespace mmoe {

std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator) {
  MMOE_CHECK(!separator.empty());
  std::vector<std::string_view> documents;
  const auto skip_separators = [&](size_t at) {
    while (text.substr(at).starts_with(separator)) at += separator.size();
    return at;
  };
  size_t begin = 0, search_from = skip_separators(0);
  while (begin < text.size()) {
    const size_t found = text.find(separator, search_from);
    const size_t end = found == std::string_view::npos ? text.size() : skip_separators(found);
    documents.push_back(text.substr(begin, end - begin));
    begin = search_from = end;
  }
  return documents;
}

std::string parse_separator(std::string_view flag) {
  std::string separator;
  for (size_t i = 0; i < flag.size(); ++i) {
    if (flag[i] != '\\') {
      separator += flag[i];
      continue;
    }
    const std::string_view rest = flag.substr(i + 1);
    const char escape = rest.empty() ? '?' : rest[0];
    if (escape == 'n' || escape == 'r' || escape == 't' || escape == '0' || escape == '\\') {
      separator += escape == 'n' ? '\n' : escape == 'r' ? '\r' : escape == 't' ? '\t' : escape == '0' ? '\0' : '\\';
      i += 1;
      continue;
    }
    unsigned value = 0;
    const char* digits = rest.data() + 1;
    if (escape != 'x' || rest.size() < 3 || std::from_chars(digits, digits + 2, value, 16).ptr != digits + 2) {
      throw ConfigError("--separator " + std::string(flag) +
                        ": a backslash stands for nothing known here; use \\n \\r \\t \\0 " + "\\\\ or \\xHH");
    }
    separator += static_cast<char>(value);
    i += 3;
  }
  if (separator.empty())
    throw ConfigError("--separator is empty; name the bytes that end a document, such as '\\n\\n'");
  return separator;
}

std::string escape_text(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      escaped += "\\n";
    } else if (c == '\r') {
      escaped += "\\r";
    } else if (c == '\t') {
      escaped += "\\t";
    } else if (c == '\\') {
      escaped += "\\\\";
    } else if (byte < 0x20 || byte >= 0x7F) {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", byte);
      escaped += code;
    } else {
      escaped += c;
    }
  }
  return escaped;
}

}  // namespace mmoe
