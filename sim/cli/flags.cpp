#include "sim/cli/flags.h"

#include <charconv>
#include <fstream>

#include "sim/config/job_key.h"
#include "sim/units/nearest.h"

namespace mmoe {
namespace {

[[noreturn]] void fail(const CommandLine& command, const std::string& what) {
  throw ConfigError(command.name + ": " + what + (what.ends_with('?') ? " " : "; ") + "see mmoe " + command.name +
                    " --help");
}

std::vector<std::string> known_flags(const po::options_description& options) {
  std::vector<std::string> names;
  for (const auto& option : options.options()) names.push_back(option->long_name());
  return names;
}

std::string without_dashes(std::string token) {
  token.erase(0, token.find_first_not_of('-'));
  return token.substr(0, token.find('='));
}

std::string unknown(const std::string& what, const std::string& name, const po::options_description& options) {
  const std::vector<std::string> flags = known_flags(options);
  std::string guess = nearest(name, flags);
  for (const std::string& flag : flags) {  // --tensor for --parallelism.tensor
    if (guess.empty() && flag.ends_with("." + name)) guess = flag;
  }
  return what + (guess.empty() ? "" : "; did you mean --" + guess + "?");
}

std::string bad_value(const po::error_with_option_name& error, const std::string& found) {
  return "--" + without_dashes(error.get_option_name()) + " cannot take the value \"" + found + "\"";
}

// Words without a flag become values of the positional options.
void place_words(const CommandLine& command, po::parsed_options& parsed) {
  std::size_t next = 0;
  for (auto& option : parsed.options) {
    if (option.position_key < 0 || !option.string_key.empty()) continue;
    const std::string word = option.value.empty() ? "" : option.value.front();
    const bool last_is_list = !command.positional.empty() &&
                              command.options.find(command.positional.back(), false).semantic()->is_composing();
    if (next >= command.positional.size() && !last_is_list) {
      fail(command,
           "unexpected word \"" + word + "\"" + (command.positional.empty() ? " (values belong to a --flag)" : ""));
    }
    option.string_key = command.positional[std::min(next++, command.positional.size() - 1)];
  }
}

void store_command_line(const CommandLine& command, const po::options_description& all,
                        const std::vector<std::string>& arguments, po::variables_map& values) {
  constexpr int kStyle = po::command_line_style::unix_style &
                         ~(po::command_line_style::allow_guessing | po::command_line_style::allow_sticky);
  po::parsed_options parsed = po::command_line_parser(arguments).options(all).style(kStyle).run();
  place_words(command, parsed);
  po::store(parsed, values);
}

void store_config_file(const CommandLine& command, const po::options_description& all, const std::string& path,
                       po::variables_map& values) {
  std::ifstream file(path);
  if (!file) fail(command, "--config " + path + " cannot be read; give a file with lines like \"job = job.json\"");
  try {
    po::store(po::parse_config_file(file, all), values);
  } catch (const po::unknown_option& error) {
    fail(command, unknown(path + ": unknown flag " + without_dashes(error.get_option_name()),
                          without_dashes(error.get_option_name()), all));
  } catch (const po::invalid_syntax& error) {
    fail(command, path + ": cannot read \"" + error.tokens() + "\"; a line is \"flag = value\"");
  } catch (const po::multiple_occurrences& error) {
    fail(command, path + ": " + without_dashes(error.get_option_name()) + " is given twice");
  }
}

// Runs `store`, turning Boost's exceptions into our one-line errors.
template <class Store>
void with_plain_errors(const CommandLine& command, const po::options_description& all, Store&& store) {
  try {
    store();
  } catch (const po::unknown_option& error) {
    const std::string name = without_dashes(error.get_option_name());
    fail(command, unknown("unknown flag --" + name, name, all));
  } catch (const po::multiple_occurrences& error) {
    fail(command, "--" + without_dashes(error.get_option_name()) + " is given twice");
  } catch (const po::required_option& error) {
    fail(command, "--" + without_dashes(error.get_option_name()) + " is missing");
  } catch (const po::invalid_command_line_syntax& error) {
    const bool extra = error.kind() == po::invalid_syntax::extra_parameter;
    fail(command, "--" + without_dashes(error.get_option_name()) + (extra ? " takes no value" : " needs a value"));
  } catch (const po::invalid_bool_value& error) {
    fail(command, bad_value(error, "?"));
  } catch (const po::validation_error& error) {
    const std::string text = error.what();  // "the argument ('x') for option '--n' is invalid"
    const auto begin = text.find("('");
    const auto end = text.find("')");
    fail(command,
         bad_value(error, begin == text.npos || end == text.npos ? "" : text.substr(begin + 2, end - begin - 2)));
  } catch (const po::error& error) {
    fail(command, error.what());
  }
}

// The job's keys by section, wrapped.
void print_job_keys(std::ostream& out) {
  constexpr std::size_t kIndent = 16, kWidth = 100;
  std::string section, line;
  for (const std::string& key : job_keys()) {
    const std::size_t dot = key.find('.');
    if (dot == std::string::npos) continue;  // "model": a preset's name, shown by the text above
    const std::string head = key.substr(0, dot);
    if (head != section || line.size() + key.size() - dot > kWidth) {
      if (!line.empty()) out << line << '\n';
      line.assign("  ");
      if (head != section) line.append("--").append(head).append(".");
      line.resize(kIndent, ' ');
      section = head;
    }
    line.append(" ").append(key, dot + 1);
  }
  out << line << '\n';
}

void print_help(const CommandLine& command, const po::options_description& options, std::ostream& out) {
  out << "mmoe " << command.name << ": " << command.purpose << "\n\n";
  out << "Example:\n  " << command.example << "\n" << options;
  if (!command.takes_job_keys) return;
  out << "\nEvery key of the job file is also a flag and wins over the file (--parallelism.tensor 4, --model "
         "olmoe-1b-7b):\n";
  print_job_keys(out);
}

}  // namespace

void CommandLine::add_job() {
  takes_job_keys = true;
  options.add_options()("job", po::value<std::string>()->required()->value_name("FILE"),
                        "job file (model, hardware, parallelism, training, elastic) or the name of a ready job");
}

Flags parse(const CommandLine& command, const std::vector<std::string>& arguments, std::ostream& out) {
  po::options_description common("Every command", 100, 50), shown("", 100, 50);
  common.add_options()("json", po::bool_switch(), "print the full result as JSON")(
      "config", po::value<std::string>()->value_name("FILE"), "read flags from FILE, one \"flag = value\" a line")(
      "help,h", po::bool_switch(), "print this help");
  shown.add(command.options).add(common);
  po::options_description all;
  all.add(shown);
  if (command.takes_job_keys) {
    for (const std::string& key : job_keys()) all.add_options()(key.c_str(), po::value<std::string>(), "");
  }

  Flags flags;
  with_plain_errors(command, all, [&] { store_command_line(command, all, arguments, flags.values); });
  if (flags.get<bool>("help")) {
    print_help(command, shown, out);
    flags.help_printed = true;
    return flags;
  }
  with_plain_errors(command, all, [&] {
    if (flags.has("config")) store_config_file(command, all, flags.get("config"), flags.values);
    po::notify(flags.values);
  });
  if (command.takes_job_keys) {
    for (const std::string& key : job_keys()) {
      if (flags.has(key)) flags.overrides.emplace_back(key, flags.get(key));
    }
  }
  return flags;
}

}  // namespace mmoe
