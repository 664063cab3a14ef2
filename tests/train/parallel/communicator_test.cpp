#include "train/parallel/communicator.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>

#include "tests/train/parallel_testing.h"

namespace mmoe {
namespace {

Job ranks(int count) {
  return small_job(R"({"hardware": {"num_devices": )" + std::to_string(count) +
                   R"(}, "training": {"global_batch_size": 24}})");
}

const Traffic& traffic(const Communicator& group, CollectiveCall call) {
  return group.traffic()[static_cast<size_t>(call)];
}

TEST(Communicator, SumsSharesAndGathers) {
  run_ranks(ranks(3), [](const ProcessGroups& groups) {
    const Communicator& world = groups.world;
    const at::Tensor values = at::full({6}, static_cast<double>(world.rank() + 1), at::kDouble);
    world.all_reduce(values).wait();
    EXPECT_TRUE(values.eq(6).all().item<bool>());

    const at::Tensor input = at::arange(6, at::kDouble) * static_cast<double>(world.rank() + 1);
    const at::Tensor share = at::empty({2}, at::kDouble);
    world.reduce_scatter(share, input).wait();
    EXPECT_TRUE(share.equal(6 * (at::arange(2, at::kDouble) + 2 * static_cast<double>(world.rank()))));

    const at::Tensor all = at::empty({6}, at::kDouble);
    world.all_gather(all, share).wait();
    EXPECT_TRUE(all.equal(6 * at::arange(6, at::kDouble)));

    EXPECT_EQ(traffic(world, CollectiveCall::kAllReduce).bytes, 48);
    EXPECT_EQ(traffic(world, CollectiveCall::kReduceScatter).bytes, 48);
    EXPECT_EQ(traffic(world, CollectiveCall::kAllGather).bytes, 16);
    EXPECT_EQ(traffic(world, CollectiveCall::kAllGather).calls, 1);
    world.reset_traffic();
    EXPECT_EQ(traffic(world, CollectiveCall::kAllReduce).calls, 0);
  });
}

// Rank r sends r + t rows to rank t, all of them of value r; so some pairs exchange nothing.
TEST(Communicator, ExchangesUnevenRows) {
  run_ranks(ranks(3), [](const ProcessGroups& groups) {
    const int64_t r = groups.world.rank();
    const std::vector<int64_t> send{r, r + 1, r + 2}, receive{r, r + 1, r + 2};
    const at::Tensor input = at::full({3 * r + 3, 2}, static_cast<double>(r), at::kDouble);
    const at::Tensor out = at::empty({3 * r + 3, 2}, at::kDouble);
    groups.world.all_to_all(out, input, receive, send).wait();
    int64_t row = 0;
    for (int64_t from = 0; from < 3; ++from) {
      for (int64_t i = 0; i < r + from; ++i, ++row) EXPECT_EQ(out[row][1].item<double>(), static_cast<double>(from));
    }
    EXPECT_EQ(traffic(groups.world, CollectiveCall::kAllToAll).bytes, (3 * r + 3) * 2 * 8);
  });
}

TEST(Communicator, OfOneRankSendsNothing) {
  const Communicator alone;
  const at::Tensor values = at::full({2}, 3.0, at::kDouble), out = at::empty({2}, at::kDouble);
  alone.all_reduce(values).wait();
  alone.all_gather(out, values).wait();
  EXPECT_TRUE(out.eq(3).all().item<bool>());
  EXPECT_EQ(traffic(alone, CollectiveCall::kAllReduce).calls, 0);
}

TEST(Communicator, SaysWhichTransferARankThatIsGoneBroke) {
  const Job job = ranks(2);
  const auto store = c10::make_intrusive<c10d::HashStore>();
  std::string message;
  const auto rank = [&](int64_t r) {
    const ProcessGroups groups = connect_groups(job, r, c10::kCPU, store, std::chrono::seconds(20));
    if (r == 1) return;  // its connections close
    try {
      groups.world.all_reduce(at::full({4}, 1.0, at::kDouble)).wait();
    } catch (const std::runtime_error& error) {
      message = error.what();
    }
  };
  std::thread other(rank, 1);
  rank(0);
  other.join();
  EXPECT_NE(message.find("all_reduce over the world group failed"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace mmoe
