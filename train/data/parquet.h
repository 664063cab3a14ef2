#pragma once
// Documents from a column of text in Apache Parquet files (https://parquet.apache.org/docs/file-format), as data sets
// are published in.

#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// True for names that end in .parquet.
bool is_parquet(std::string_view path);

// The strings of the column `column` at the top level, row by row; nulls are passed over, empty strings too. Read by
// Apache Arrow, so in every encoding and compression that it knows. ConfigError naming the file where it is damaged or
// has no such column, or where this build has no Arrow.
std::vector<std::string> parquet_documents(std::string_view bytes, const std::string& column, const std::string& path);

}  // namespace mmoe
