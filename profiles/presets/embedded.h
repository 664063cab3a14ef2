#pragma once
// The data files of this folder tree (devices, presets), compiled into the program so that it runs without its sources.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// The text of an embedded file, named by its path below profiles/ ("hardware/h100-sxm-80gb.json"), or nothing.
std::optional<std::string_view> embedded_file(std::string_view path);

// The names, without folder and ".json", of the embedded files of a folder ("presets/models"), sorted.
std::vector<std::string> embedded_names(std::string_view folder);

}  // namespace mmoe
