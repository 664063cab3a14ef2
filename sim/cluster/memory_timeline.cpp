#include "sim/cluster/memory_timeline.h"

#include <algorithm>
#include <utility>

#include "sim/cluster/step_time.h"
#include "sim/schedule/in_flight.h"

namespace mmoe {
namespace {

// Bytes that grow with k, from those at the two ends of its range.
struct Linear {
  double at_least, slope, k_min;
  double at(double k) const { return at_least + slope * (k - k_min); }
};

// Models of the same job at k_min and k_max.
struct Ends {
  MemoryModel least, most;
  double k_min, range;

  Linear between(double low, double high, double layers) const {
    return {low, range > 0 && layers > 0 ? (high - low) / range / layers : 0, k_min};
  }
};

class RankPlayer {
 public:
  RankPlayer(const Job& job, const Ends& ends, int64_t rank, const std::vector<StageChunk>& chunks, const DrawnK& k)
      : job_(job),
        ends_(ends),
        chunks_(chunks),
        k_(k),
        contents_(ends.most.contents(chunks, rank)),
        always_(ends.most.kept_always(contents_)),
        most_in_flight_(chunks_in_flight(pipeline_shape(job), rank).total()) {
    timeline_.held = ends.most.held(contents_, state_shards(job));
    in_flight_.assign(chunks.size(), 0);
  }

  void forward(const Pass& pass, double finish) {
    kept_ += kept(pass);
    ++in_flight_[static_cast<std::size_t>(pass.chunk)];
    const bool head = chunk_of(pass).head;
    add(finish, head ? ends_.most.loss() : 0, 0, head ? "loss" : "forward");
  }
  void backward(const Pass& pass, double start, double finish) {
    add(start, 0, work(pass), "backward");
    if (pass.kind != PassKind::kBackwardInput) {  // a split backward gives all back with the weights' gradients
      kept_ -= kept(pass);
      --in_flight_[static_cast<std::size_t>(pass.chunk)];
    }
    add(finish, 0, 0, "backward");
  }
  RankTimeline finish() { return std::move(timeline_); }

 private:
  const StageChunk& chunk_of(const Pass& pass) const { return chunks_[static_cast<std::size_t>(pass.chunk)]; }

  double sum_k(const Pass& pass) const {
    const StageChunk& chunk = chunk_of(pass);
    const int64_t count = chunk.num_moe_layers(job_.model);
    const int64_t first = chunk.first_layer + chunk.num_layers - count - job_.model.num_dense_layers;
    double sum = 0;
    for (int64_t layer = first; layer < first + count; ++layer) sum += k_(pass.micro_batch, layer);
    return sum;
  }

  double kept(const Pass& pass) const {
    const StageChunk& chunk = chunk_of(pass);
    const auto layers = static_cast<double>(chunk.num_moe_layers(job_.model));
    const Linear bytes = ends_.between(ends_.least.kept_by_chunk(chunk), ends_.most.kept_by_chunk(chunk), layers);
    const double drawn =
        layers > 0 ? bytes.at_least + bytes.slope * (sum_k(pass) - layers * bytes.k_min) : bytes.at_least;
    return drawn + ends_.most.dropout_masks(chunks_);
  }

  double work(const Pass& pass) const {
    const auto layers = static_cast<double>(chunk_of(pass).num_moe_layers(job_.model));
    const Linear bytes = ends_.between(ends_.least.backward_work(chunks_), ends_.most.backward_work(chunks_), 1);
    return layers > 0 ? bytes.at(sum_k(pass) / layers) : bytes.at(ends_.k_min + ends_.range);
  }

  void add(double seconds, double logits, double transient, const char* moment) {
    const double needed = timeline_.held.total().value + always_ + kept_ + logits + transient;
    const double queued = ends_.most.queued(chunks_, in_flight_, kept_, most_in_flight_);
    const double waiting = ends_.most.waiting(queued, needed, timeline_.held.cached);
    timeline_.add({seconds, always_ + kept_ + waiting, logits, transient, moment});
  }

  const Job& job_;
  const Ends& ends_;
  const std::vector<StageChunk>& chunks_;
  const DrawnK& k_;
  RankContents contents_;
  double always_, kept_ = 0;
  std::vector<int64_t> in_flight_;  // by chunk
  int64_t most_in_flight_;          // of all chunks together
  RankTimeline timeline_;
};

}  // namespace

void RankTimeline::add(MemorySample sample) {
  samples.push_back(std::move(sample));
  if (samples.back().total() > samples[peak].total()) peak = samples.size() - 1;
}

PlayedStep play_step(const Job& job, const Framework& framework, double k, const LoadByK& load) {
  const StepModel model(job, framework, k, load);
  const std::vector<ChunkSeconds> chunks = model.stages(pipeline_stages(job, framework)).chunks;
  PlayedStep step{pipeline_passes(pipeline_shape(job)), model.transfers(), {}};
  step.times = simulate_pipeline(step.passes, pass_seconds(step.passes, chunks), step.transfers);
  return step;
}

std::vector<RankTimeline> memory_timeline(const Job& job, const Framework& framework, const DrawnK& k,
                                          const PlayedStep& step, const LoadByK& load) {
  const PipelineStages stages = pipeline_stages(job, framework);
  const double k_min = job.elastic.k_min, k_max = job.elastic.k_max;
  const Ends ends{MemoryModel(job, framework, k_min, load.at(k_min)),
                  MemoryModel(job, framework, k_max, load.at(k_max)), k_min, k_max - k_min};
  const auto& [passes, transfers, times] = step;
  std::vector<RankTimeline> ranks;
  for (int64_t rank = 0; rank < job.parallelism.pipeline; ++rank) {
    RankPlayer player(job, ends, rank, stages[static_cast<std::size_t>(rank)], k);
    for (int32_t i = passes.rank_begin[rank]; i < passes.rank_begin[rank + 1]; ++i) {
      const Pass& pass = passes.passes[static_cast<std::size_t>(i)];
      const double start = times.start[static_cast<std::size_t>(i)].value,
                   finish = times.finish[static_cast<std::size_t>(i)].value;
      if (pass.kind == PassKind::kForward) {
        player.forward(pass, finish);
      } else {
        player.backward(pass, start, finish);
      }
    }
    ranks.push_back(player.finish());
  }
  return ranks;
}

}  // namespace mmoe
