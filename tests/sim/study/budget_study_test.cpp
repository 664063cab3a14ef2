#include "sim/study/budget_study.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "sim/elastic/elastic_law.h"
#include "sim/units/errors.h"

namespace mmoe {
namespace {

nlohmann::json study_json() {
  return nlohmann::json::parse(R"({
    "question": "does it save?",
    "job": {
      "model": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 256, "num_experts": 8,
                "expert_hidden_size": 64},
      "hardware": {"device": "cpu"},
      "training": {"seq_len": 64, "micro_batch_size": 12, "global_batch_size": 24, "precision": "fp32",
                   "tokens": 153600},
      "elastic": {"k_min": 1, "k_max": 6}
    },
    "depths": [4, 8], "seeds": [1, 2], "evaluations": 2, "margin": 0.02,
    "arms": [
      {"name": "free", "role": "baseline"},
      {"name": "at_most", "role": "budget", "budget": {"kind": "at_most", "mean_k": 2.8}},
      {"name": "exact", "role": "budget", "budget": {"kind": "exact", "mean_k": 3}},
      {"name": "by_kl", "role": "budget", "budget": {"kl_per_layer": 0.2}},
      {"name": "tilted", "role": "control", "tilted_to": "at_most"},
      {"name": "lower", "role": "control", "k_max_to": "exact"},
      {"name": "fixed", "role": "control", "fixed_to": "exact"},
      {"name": "recompute", "role": "alternative", "set": {"training.recompute": "full"}},
      {"name": "smaller", "role": "alternative", "peak_of": "at_most"},
      {"name": "keeps_all", "role": "alternative", "set": {"training.expert_saving": "all"}},
      {"name": "keeps_none", "role": "alternative", "set": {"training.expert_saving": "recompute"}}
    ]})");
}

Calibration cpu_calibration() {
  DeviceSpec device;
  device.name = "cpu";
  return default_calibration(device);
}

class BudgetStudyFile : public testing::Test {
 protected:
  BudgetStudyFile()
      : path_((std::filesystem::temp_directory_path() /
               ("mmoe_study_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()) + ".json"))
                  .string()) {}
  ~BudgetStudyFile() override { std::filesystem::remove(path_); }

  BudgetStudy load(const nlohmann::json& json) {
    std::ofstream(path_) << json.dump();
    return load_study(path_);
  }
  std::string error(const nlohmann::json& json) {
    try {
      const BudgetStudy study = load(json);
      resolve_arms(study, study.depths[0], cpu_calibration());
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "";
  }

  std::string path_;
};

TEST_F(BudgetStudyFile, ArmsAreMatchedAtEveryDepth) {
  const BudgetStudy study = load(study_json());
  for (const int64_t depth : study.depths) {
    const std::vector<ResolvedArm> arms = resolve_arms(study, depth, cpu_calibration());
    ASSERT_EQ(arms.size(), 11u);
    for (const ResolvedArm& arm : arms) {
      EXPECT_EQ(arm.job.model.num_layers, depth);
      EXPECT_EQ(arm.steps, 100);
      EXPECT_EQ(arm.job.training.checkpoint_interval, 50);
      EXPECT_EQ(arm.job.elastic.k_reference, 6);
    }
    EXPECT_DOUBLE_EQ(arms[0].mean_k, 3.5);
    EXPECT_EQ(arms[0].kl_per_layer, 0);
    // One step of the bound moves the mean by less than 1 / layers, so the closest lies within half of that.
    EXPECT_NEAR(arms[1].mean_k, 2.8, 0.5 / static_cast<double>(depth));
    EXPECT_EQ(arms[2].job.elastic.budget->sum_k[0], 3 * depth);
    EXPECT_NEAR(arms[4].mean_k, arms[1].mean_k, 1e-8);
    EXPECT_LT(arms[4].kl_per_layer, arms[1].kl_per_layer);  // of all laws with that mean the closest
    EXPECT_EQ(arms[5].job.elastic.k_max, 5);
    EXPECT_EQ(arms[6].job.elastic.k_min, 3);
    EXPECT_DOUBLE_EQ(arms[6].kl_per_layer, std::log(6));
    EXPECT_LT(arms[7].predicted_peak->p99, arms[0].predicted_peak->p99);
    EXPECT_LE(arms[8].predicted_peak->p99, arms[1].predicted_peak->p99);
    EXPECT_LT(arms[8].job.training.micro_batch_size, 12);
    EXPECT_GT(arms[9].predicted_peak->p99, arms[0].predicted_peak->p99);
    EXPECT_LT(arms[10].predicted_peak->p99, arms[0].predicted_peak->p99);
  }
}

TEST_F(BudgetStudyFile, CutMarginalsAreLawsOfTheSameBound) {
  const BudgetStudy study = load(study_json());
  const std::vector<ResolvedArm> arms = resolve_arms(study, 4, cpu_calibration());
  const nlohmann::json list = cut_marginals(arms);
  ASSERT_EQ(list.size(), 6u);  // two at_most arms, three methods
  for (const nlohmann::json& entry : list) {
    double mean = 0;
    for (const nlohmann::json& marginal : entry.at("marginals")) {
      double total = 0;
      for (const auto& [k, p] : marginal.items()) total += p.get<double>(), mean += std::stod(k) * p.get<double>() / 4;
      EXPECT_NEAR(total, 1, 1e-12);
    }
    EXPECT_NEAR(entry.at("mean_k").get<double>(), mean, 1e-12);
  }
  EXPECT_NEAR(list[0].at("mean_k").get<double>(), arms[1].mean_k, 1e-12);
  // Clipping keeps the first layer free and starves the last.
  EXPECT_NEAR(list[1].at("kl_by_layer")[0].get<double>(), 0, 0.2);
  EXPECT_GT(list[1].at("kl_by_layer")[3].get<double>(), list[1].at("kl_by_layer")[0].get<double>());
}

// Nothing predicts the peak of draws that are cut, so no peak can be matched to it or measured by it.
TEST_F(BudgetStudyFile, PeaksOfCutDrawsAreNotCompared) {
  const auto cut = [](const std::string& method) {
    return nlohmann::json{{"elastic.budget", {{"kind", "at_most"}, {"sum_k", 12}, {"method", method}}}};
  };
  for (const std::string method : {"clip", "rescale"}) {
    nlohmann::json json = study_json();
    json["arms"][7]["set"] = cut(method);
    EXPECT_EQ(error(json), "") << "an arm may cut its draws";
    json["arms"][8]["peak_of"] = "recompute";
    EXPECT_NE(error(json).find("peak_of = recompute compares predicted peaks, but that of arm recompute is not known: "
                               "its elastic.budget.method is " +
                               method),
              std::string::npos)
        << error(json);
    json = study_json();
    json["arms"][8]["set"] = cut(method);
    EXPECT_NE(error(json).find("that of arm smaller is not known"), std::string::npos) << error(json);
    json = study_json();
    json["arms"][0]["set"] = cut(method);
    EXPECT_NE(error(json).find("arm free at 4 layers: elastic.budget.method = " + method), std::string::npos)
        << error(json);
  }
}

TEST_F(BudgetStudyFile, MistakesAreNamed) {
  const auto with = [](const char* pointer, const nlohmann::json& value) {
    nlohmann::json json = study_json();
    json[nlohmann::json::json_pointer(pointer)] = value;
    return json;
  };
  EXPECT_NE(error(with("/arms/4/tilted_to", "at_mots")).find("arms[4].tilted_to"), std::string::npos);
  EXPECT_NE(error(with("/arms/1/name", "free")).find("arms[1].name"), std::string::npos);
  EXPECT_NE(error(with("/arms/1/name", "../x")).find("arms[1].name"), std::string::npos);
  EXPECT_NE(error(with("/arms/1/budget", {{"kind", "at_most"}})).find("mean_k or kl_per_layer"), std::string::npos);
  EXPECT_NE(error(with("/arms/1/budget/kind", "window")).find("arms[1].budget.kind"), std::string::npos);
  EXPECT_NE(error(with("/arms/4/k_max_to", "exact")).find("twice"), std::string::npos);
  EXPECT_NE(error(with("/seeds", {1, 1})).find("seeds"), std::string::npos);
  EXPECT_NE(error(with("/evaluations", 101)).find("101"), std::string::npos);
  EXPECT_NE(error(with("/job/training/tokens", 10)).find("arm free"), std::string::npos);
  EXPECT_NE(error(with("/arms/7/set/training.recompute", "ful")).find("arm recompute"), std::string::npos);
  EXPECT_NE(error(with("/extra", 1)).find("extra"), std::string::npos);
}

}  // namespace
}  // namespace mmoe
