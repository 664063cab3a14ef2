#include "train/interchange/recipes.h"

#include <gtest/gtest.h>

namespace mmoe {
namespace {

TEST(ServingRecipes, NameTheGgufArchitecture) {
  for (const auto& [type, name] :
       {std::pair{"olmoe", "olmoe"}, {"mixtral", "llama"}, {"qwen2_moe", "qwen2moe"}, {"qwen3_moe", "qwen3moe"}}) {
    EXPECT_NE(serving_recipes("folder", type, 4).find(std::string(" ") + name + ".expert_used_count=int:4\n"),
              std::string::npos)
        << type;
  }
}

}  // namespace
}  // namespace mmoe
