#include "train/parallel/rank_board.h"

#include <algorithm>
#include <thread>

#include "train/parallel/communicator.h"

namespace mmoe {
namespace {

constexpr const char* kFailures = "board/failures";  // how many ranks have ended by an error of their own

std::vector<uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

std::string cause_key(int64_t rank) { return "board/cause/" + std::to_string(rank); }
std::string left_key(int64_t rank) { return "board/left/" + std::to_string(rank); }

}  // namespace

void RankBoard::check_failures() {
  if (store_->add(kFailures, 0) > 0) throw RankLost("another rank has ended");
}

void RankBoard::meet() {
  const std::string key = "board/meeting/" + std::to_string(meetings_++);
  try {
    store_->add(key, 1);
    auto pause = std::chrono::milliseconds(1);
    while (store_->add(key, 0) < world_size_) {
      check_failures();
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, std::chrono::milliseconds(200));
    }
  } catch (const RankLost&) {
    throw;
  } catch (const std::exception&) {
    throw RankLost("the store that joins the ranks does not answer");
  }
}

std::string RankBoard::from_first(const std::string& value) {
  const std::string key = "board/value/" + std::to_string(meetings_);
  try {
    if (rank_ == 0) store_->set(key, bytes(value));
  } catch (const std::exception&) {
    throw RankLost("the store that joins the ranks does not answer");
  }
  meet();
  const std::vector<uint8_t> found = store_->get(key);
  return {found.begin(), found.end()};
}

void RankBoard::report_failure(const std::string& cause) {
  try {
    store_->set(cause_key(rank_), bytes(cause));
    store_->add(kFailures, 1);
  } catch (const std::exception&) {  // the store went first: nobody can be told
  }
}

std::string RankBoard::what_happened(std::chrono::milliseconds patience) {
  std::vector<std::string> causes;
  std::vector<int64_t> silent;
  try {
    store_->set(left_key(rank_), bytes("1"));
    const auto end = std::chrono::steady_clock::now() + patience;
    for (;;) {
      causes.clear();
      silent.clear();
      for (int64_t rank = 0; rank < world_size_; ++rank) {
        if (store_->check({cause_key(rank)})) {
          const std::vector<uint8_t> cause = store_->get(cause_key(rank));
          causes.push_back("rank " + std::to_string(rank) + ": " + std::string(cause.begin(), cause.end()));
        } else if (!store_->check({left_key(rank)})) {
          silent.push_back(rank);
        }
      }
      if (!causes.empty() || silent.empty() || std::chrono::steady_clock::now() > end) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  } catch (const std::exception&) {
    return "the store that joins the ranks does not answer: the launcher, or rank 0, has ended";
  }
  if (!causes.empty()) return causes.front();
  if (silent.empty()) return "no rank says why: the network between them may be interrupted";
  std::string text = "rank" + std::string(silent.size() > 1 ? "s" : "");
  for (size_t i = 0; i < std::min<size_t>(silent.size(), 8); ++i) {
    text += (i > 0 ? ", " : " ") + std::to_string(silent[i]);
  }
  if (silent.size() > 8) text += " and " + std::to_string(silent.size() - 8) + " more";
  return text + (silent.size() > 1 ? " have" : " has") + " been killed, or does not answer";
}

}  // namespace mmoe
