#include "sim/search/layout_space.h"

#include <algorithm>

namespace mmoe {
namespace {

std::vector<int64_t> divisors(int64_t number, int64_t most) {
  std::vector<int64_t> list;
  for (int64_t d = 1; d <= std::min(number, most); ++d) {
    if (number % d == 0) list.push_back(d);
  }
  return list;
}

bool divides(int64_t degree, int64_t size) { return size == 0 || size % degree == 0; }

bool splits_heads(const ModelConfig& model, int64_t ranks) {
  return divides(ranks, model.num_heads) && divides(ranks, model.num_kv_heads);
}

bool lists(const std::vector<std::string>& words, const char* word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Larger micro-batches than this are never worth their memory on a device with hundreds of them a step.
constexpr int64_t kLargestMicroBatch = 16;

// Layers' worth of work that a cut may count for embedding and loss.
constexpr int64_t kMostForEmbedding = 1, kMostForLoss = 2;

std::vector<int64_t> zero_groups_of(const HardwareConfig& hardware) {
  std::vector<int64_t> groups = {0};
  for (int64_t size = hardware.num_devices - 1; size > 1; --size) {
    const bool is_power = (size & (size - 1)) == 0;
    if (is_power || hardware.devices_per_node % size == 0) groups.push_back(size);
  }
  return groups;
}

}  // namespace

LayoutSpace::LayoutSpace(const Job& job, const Framework& framework)
    : job_(job),
      framework_(framework),
      schedule_given_(job.given.contains("parallelism.schedule")),
      virtual_given_(job.given.contains("parallelism.virtual_pipeline")),
      pipelines_embeddings_(!job.model.tie_embeddings || framework.splits_tied_embeddings ||
                            job.given.contains("parallelism.pipeline")) {
  const auto is_searched = [&](const char* key, const char* choice) {
    return !job.given.contains(key) && lists(framework.choices, choice);
  };
  stages_are_searched_ = is_searched("parallelism.stage_layers", "stage_layers");
  const bool with_sequence = lists(framework.splits, "tensor_with_sequence");
  for (const SplitDegree& degree : kSplitDegrees) {
    const bool given = job.given.contains(std::string("parallelism.") + degree.name);
    const bool runs = lists(framework.splits, degree.name) || (degree.name == std::string("tensor") && with_sequence);
    if (!given && !runs) missing_.push_back(degree);
  }
  const bool both_given = job.given.contains("parallelism.tensor") && job.given.contains("parallelism.sequence");
  tensor_needs_sequence_ = with_sequence && !both_given;
  const ModelConfig& model = job.model;
  const ParallelismConfig& now = job.parallelism;
  const int64_t devices = job.hardware.num_devices, node = job.hardware.devices_per_node;
  const auto open = [&](const char* key, int64_t value, std::vector<int64_t> values) {
    return job.given.contains(key) ? std::vector<int64_t>{value} : std::move(values);
  };
  const auto allowed = [](std::vector<int64_t> values, const auto& rule) {
    std::erase_if(values, [&](int64_t value) { return !rule(value); });
    return values;
  };
  // Tensor parallelism beyond a node is never faster than within it; it can be asked for.
  tensors = open("parallelism.tensor", now.tensor, allowed(divisors(devices, node), [&](int64_t t) {
                   return divides(t, model.num_heads) && divides(t, model.num_kv_heads) &&
                          divides(t, model.dense_hidden_size) && divides(t, model.shared_expert_hidden_size);
                 }));
  contexts =
      open("parallelism.context", now.context,
           allowed(divisors(devices, 64), [&](int64_t c) { return c == 1 || job.training.seq_len % (2 * c) == 0; }));
  pipelines = open("parallelism.pipeline", now.pipeline, divisors(devices, model.num_layers));
  experts = open("parallelism.expert", now.expert,
                 model.num_experts == 0
                     ? std::vector<int64_t>{1}
                     : allowed(divisors(model.num_experts, devices), [&](int64_t e) { return devices % e == 0; }));
  expert_tensors =
      open("parallelism.expert_tensor", now.expert_tensor,
           model.num_experts == 0 ? std::vector<int64_t>{1} : allowed(divisors(devices, node), [&](int64_t t) {
             return divides(t, model.expert_hidden_size);
           }));
  zero_stages = open("parallelism.zero_stage", now.zero_stage, framework.zero_stages);
  micro_batches = open("training.micro_batch_size", job.training.micro_batch_size,
                       divisors(job.training.global_batch_size, kLargestMicroBatch));
  if (job.given.contains("training.recompute")) {
    recomputes = {job.training.recompute};
  } else {
    const bool moe = model.num_moe_layers() > 0;
    const auto offer = [&](bool useful, const char* word, Recompute recompute) {
      if (useful && lists(framework.recomputes, word)) recomputes.push_back(std::move(recompute));
    };
    const bool scores = job.training.attention_backend == AttentionBackend::kUnfused;
    recomputes = {{}};
    offer(true, "full", {true, {}, job.training.recompute.num_layers});
    offer(scores, "core_attention", {false, {"core_attention"}});
    offer(moe, "moe_activation", {false, {"moe_activation"}});
    offer(moe, "moe", {false, {"moe"}});
    offer(!moe, "mlp", {false, {"mlp"}});
    offer(true, "attention", {false, {"attention"}});
  }
  recomputed_layers_are_searched = is_searched("training.recompute_num_layers", "recompute_num_layers");
  // A choice of this trainer. On GPUs what keeps all is predicted like what keeps less, so it is not worth a try.
  expert_savings = {job.training.expert_saving};
  const bool ours = job.training.framework == TrainingConfig().framework;
  if (ours && model.num_moe_layers() > 0 && !job.given.contains("training.expert_saving"))
    expert_savings = {ExpertSaving::kLean, ExpertSaving::kRecompute};
  if (expert_savings.size() > 1 && job.hardware.spec.is_cpu) expert_savings.push_back(ExpertSaving::kAll);
  dispatchers = {job.training.moe.dispatcher};
  if (!job.given.contains("training.moe.dispatcher") && model.num_experts > 0) {
    dispatchers = framework.dispatchers;
  }
  context_kinds =
      job.given.contains("parallelism.context_kind") ? std::vector{now.context_kind} : framework.context_kinds;
  zero_groups = {now.zero_group};
  if (is_searched("parallelism.zero_group", "zero_group")) zero_groups = zero_groups_of(job.hardware);
  // The faster first. Elsewhere than in this trainer's ranks both take the same memory, so one is enough.
  overlaps = {job.training.overlap};
  if (!job.given.contains("training.overlap")) {
    overlaps = {framework.time.exposed_data <= 1};
    if (ours && job.hardware.spec.is_cpu) overlaps = {true, false};
  }
  offloads = {job.training.offload};
  const bool everywhere = is_searched("training.offload", "offload_activations");
  activations_are_offloaded_alone_ = !everywhere && is_searched("training.offload", "offload_activations_alone");
  if (job.hardware.spec.host_link.value > 0 && job.hardware.cluster_spec.host_memory.value > 0) {
    if (is_searched("training.offload", "offload_optimizer")) offloads.push_back(Offload::kOptimizer);
    if (everywhere || activations_are_offloaded_alone_) offloads.push_back(Offload::kActivations);
  }
  if (job.given.contains("parallelism.sequence")) {
    sequences = {now.sequence};
  } else {
    sequences = {true, false};
  }
}

// What is recomputed of a layer, and of its experts where the layer keeps them.
std::vector<std::pair<std::size_t, ExpertSaving>> LayoutSpace::recomputations() const {
  std::vector<std::pair<std::size_t, ExpertSaving>> list;
  for (std::size_t recompute = 0; recompute < recomputes.size(); ++recompute) {
    const bool all = recomputes[recompute].full || recomputes[recompute].has("moe");
    for (const ExpertSaving saving : expert_savings) {
      if (!all || saving == expert_savings.front()) list.emplace_back(recompute, saving);
    }
  }
  return list;
}

std::vector<LayoutShape> LayoutSpace::shapes() const {
  const int64_t node = job_.hardware.devices_per_node;
  std::vector<LayoutShape> list;
  for (const int64_t tensor : tensors) {
    for (const int64_t context : contexts) {
      for (const int64_t expert : experts) {
        for (const int64_t expert_tensor : expert_tensors) {
          for (const int64_t size : micro_batches) {
            for (const auto& [recompute, saving] : recomputations()) {
              for (const bool sequence : sequences) {
                // One rank has nothing to split; sequence parallelism with more saves memory for the same transfers.
                if (sequences.size() > 1 && sequence != (tensor > 1)) continue;
                for (const DispatcherKind dispatcher : dispatchers) {
                  // Within a node there is no second level.
                  const bool flat = expert * expert_tensor <= node;
                  if (dispatchers.size() > 1 && flat && dispatcher == DispatcherKind::kHierarchical) continue;
                  for (const ContextKind kind : context_kinds) {
                    // One rank exchanges nothing; all-to-all splits the heads over the ranks.
                    if (context == 1 && kind != context_kinds.front()) continue;
                    if (context > 1 && kind == ContextKind::kAllToAll && !splits_heads(job_.model, tensor * context)) {
                      continue;
                    }
                    const std::size_t without_offload = list.size();
                    for (const Offload offload : offloads) {
                      if (offload == Offload::kActivations && activations_are_offloaded_alone_ &&
                          recomputes[recompute].any()) {
                        continue;
                      }
                      list.push_back({tensor, context, expert, expert_tensor, size, recompute, saving, sequence,
                                      dispatcher, kind, offload, without_offload});
                    }
                  }
                }
              }
            }
          }
        }
      }
    }
  }
  return list;
}

// Several a rank that divide the layers together with at most so many more.
std::vector<int64_t> LayoutSpace::chunks_of_equal_length(int64_t pipeline, int64_t most_more) const {
  const int64_t layers = job_.model.num_layers;
  std::vector<int64_t> list;
  for (int64_t v = 2; v * pipeline <= layers; ++v) {
    if ((layers + most_more) / (v * pipeline) * (v * pipeline) >= layers) list.push_back(v);
  }
  return list;
}

// Chunks of unequal length interleave no better; where no number of them divides the layers, the fewest.
std::vector<ScheduleChoice> LayoutSpace::interleaved(int64_t pipeline) const {
  using enum PipelineSchedule;
  if (virtual_given_) {
    const int64_t given = job_.parallelism.virtual_pipeline;
    if (given > 1) return {{kInterleaved, given}};
    return {};
  }
  std::vector<int64_t> equal = chunks_of_equal_length(pipeline, 0);
  if (equal.empty() && 2 * pipeline <= job_.model.num_layers) equal.push_back(2);
  std::vector<ScheduleChoice> list;
  for (const int64_t v : equal) list.push_back({kInterleaved, v});
  if (!stages_are_searched_) return list;
  for (const int64_t v : chunks_of_equal_length(pipeline, kMostForEmbedding + kMostForLoss)) {
    if (std::find(equal.begin(), equal.end(), v) == equal.end()) list.push_back({kInterleaved, v, true});
  }
  return list;
}

std::vector<std::vector<int64_t>> LayoutSpace::stage_cuts(int64_t pipeline, const ScheduleChoice& choice) const {
  const std::vector<int64_t>& given = job_.parallelism.stage_layers;
  const int64_t chunks = pipeline * choice.virtual_pipeline;
  if (!given.empty()) {
    if (static_cast<int64_t>(given.size()) != chunks) return {};
    return {given};
  }
  if (!stages_are_searched_ || chunks == 1) return {{}};
  std::vector<std::vector<int64_t>> cuts;
  for (int64_t embedding = 0; embedding <= kMostForEmbedding; ++embedding) {
    for (int64_t loss = 0; loss <= kMostForLoss; ++loss) {
      const int64_t parts = job_.model.num_layers + embedding + loss;
      for (const bool longer_first : {true, false}) {
        std::vector<int64_t> cut(static_cast<std::size_t>(chunks), parts / chunks);
        const auto longer = static_cast<std::ptrdiff_t>(parts % chunks);
        const auto begin = longer_first ? cut.begin() : cut.end() - longer;
        std::for_each(begin, begin + longer, [](int64_t& length) { ++length; });
        cut.front() -= embedding;
        cut.back() -= loss;
        const bool is_new = std::find(cuts.begin(), cuts.end(), cut) == cuts.end();
        if (is_new && *std::min_element(cut.begin(), cut.end()) > 0) cuts.push_back(std::move(cut));
      }
    }
  }
  // The first, with nothing more for either, is what most frameworks do by themselves.
  if (framework_.stage_cut == StageCut::kEven && !cuts.empty()) cuts.erase(cuts.begin());
  if (!choice.needs_cut) cuts.insert(cuts.begin(), std::vector<int64_t>{});
  return cuts;
}

bool LayoutSpace::has_valid_groups(const Job& job) const {
  const ParallelismConfig& p = job.parallelism;
  if (p.zero_group == 0) return true;
  const int64_t data = job.data_parallel_size();
  if (zero_groups.size() > 1 && (p.zero_stage == 0 || p.zero_group >= data)) return false;
  if (data % p.zero_group != 0) return false;
  return job.model.num_experts == 0 || p.expert_data(job.hardware) % p.sharded_copies(job.hardware) == 0;
}

bool LayoutSpace::has_valid_sharding(const Job& job) const {
  const bool offloads_whole_states = job.training.offload == Offload::kOptimizer && job.parallelism.zero_stage == 0;
  return has_valid_groups(job) && !(offloads.size() > 1 && offloads_whole_states);
}

std::vector<ScheduleChoice> LayoutSpace::schedules(int64_t pipeline) const {
  const auto offered = [&](PipelineSchedule schedule) {
    if (schedule_given_) return job_.parallelism.schedule == schedule;
    const auto& known = framework_.schedules;
    return std::find(known.begin(), known.end(), schedule) != known.end();
  };
  const int64_t given = virtual_given_ ? job_.parallelism.virtual_pipeline : 0;
  const auto has_chunks = [&](int64_t chunks) { return !virtual_given_ || given == chunks; };
  using enum PipelineSchedule;
  if (pipeline == 1) {  // no bubble, so no choice
    const PipelineSchedule plain = given > 1 ? kInterleaved : kOneForwardOneBackward;
    return {{schedule_given_ ? job_.parallelism.schedule : plain, std::max<int64_t>(given, 1)}};
  }
  std::vector<ScheduleChoice> list;
  if (offered(kOneForwardOneBackward) && has_chunks(1)) list.push_back({kOneForwardOneBackward, 1});
  if (offered(kInterleaved)) {
    for (const ScheduleChoice& choice : interleaved(pipeline)) list.push_back(choice);
  }
  if (offered(kZeroBubble)) {
    if (has_chunks(1)) list.push_back({kZeroBubble, 1});
    if (has_chunks(2) && 2 * pipeline <= job_.model.num_layers) list.push_back({kZeroBubble, 2});
  }
  return list;
}

void LayoutSpace::apply(const LayoutShape& shape, Job& job) const {
  job.parallelism.tensor = shape.tensor;
  job.parallelism.context = shape.context;
  job.parallelism.expert = shape.expert;
  job.parallelism.expert_tensor = shape.expert_tensor;
  job.parallelism.context_kind = shape.context_kind;
  job.parallelism.sequence = shape.sequence;
  job.parallelism.pipeline = 1;
  job.training.micro_batch_size = shape.micro_batch_size;
  job.training.recompute = recomputes[shape.recompute];
  job.training.expert_saving = shape.expert_saving;
  job.training.moe.dispatcher = shape.dispatcher;
  job.training.offload = shape.offload;
}

const char* LayoutSpace::why_not(const Job& job) const {
  const ParallelismConfig& p = job.parallelism;
  if (p.pipeline > 1 && !pipelines_embeddings_) {
    return "the framework does not split tied embeddings over pipeline stages";
  }
  for (const SplitDegree& degree : missing_) {
    if (p.*degree.size > 1) return degree.missing;
  }
  if (p.tensor > 1 && !p.sequence && tensor_needs_sequence_) {
    return "the framework has no tensor parallelism without sequence parallelism";
  }
  if (p.pipeline > 1 && activations_are_offloaded_alone_ && job.training.offload == Offload::kActivations) {
    return "the framework offloads activations only without a pipeline";
  }
  const int64_t devices = job.hardware.num_devices;
  if (devices % (p.tensor * p.pipeline * p.context) != 0)
    return "tensor x pipeline x context does not divide the devices";
  if (devices % (p.expert * p.expert_tensor * p.pipeline) != 0) {
    return "expert x expert_tensor x pipeline does not divide the devices";
  }
  if (zero_groups.size() == 1 && !has_valid_groups(job)) {
    return "zero_group does not divide the replicas, or makes copies that do not divide those of the experts";
  }
  const int64_t unit = job.training.micro_batch_size * job.data_parallel_size();
  if (job.training.global_batch_size % unit != 0) return "micro-batches and replicas do not divide the global batch";
  if (p.sequence && job.training.seq_len / p.context % p.tensor != 0)
    return "the sequence does not split over tensor ranks";
  return nullptr;
}

}  // namespace mmoe
