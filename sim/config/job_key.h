#pragma once
// The list of every key that a job file may hold.

#include <string>
#include <string_view>
#include <vector>

namespace mmoe {

// How the text of a flag becomes the value of a key: words stay text; values are numbers, true, false or words;
// lists are JSON or words with commas between; objects are JSON or one word.
enum class KeyForm { kWord, kPath, kWordOrPath, kValue, kList, kPathList, kObject };

struct JobKey {
  std::string_view name;  // dotted: "training.moe.load"
  KeyForm form;
  bool may_be_auto;  // "auto" leaves the choice to `mmoe plan` or `mmoe budget`
};

// In file order.
const std::vector<JobKey>& job_key_table();

// The entry of a dotted key, or null.
const JobKey* find_job_key(std::string_view name);

}  // namespace mmoe
