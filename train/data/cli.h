#pragma once
// mmoe data: text to token files, and a look into them.

#include <string>
#include <vector>

namespace mmoe {

// Runs `mmoe data` with the words behind it: `build --text FILE... --out PREFIX ...` or `inspect PREFIX`. Results go to
// standard output, progress to standard error. Returns the exit status 0; throws ConfigError for the user's mistakes.
int data_command(const std::vector<std::string>& arguments);

}  // namespace mmoe
