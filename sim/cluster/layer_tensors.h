#pragma once
// The tensors that one layer keeps from its forward to its backward pass, one micro-batch on one rank.
//
// Sources: Korthikanti et al. 2022 (arXiv:2205.05198), section 4.1, tensor by tensor; what Megatron-Core with
// Transformer Engine keeps beyond it is named at each tensor.
// Words of training.options that change memory:
//   local_layers                  layers without Transformer Engine: unfused attention in a shared score buffer
//   unfused_softmax               fp32 probabilities of unfused attention are kept (no fused kernel)
//   flash_attention, cudnn_attention   flash-attn keeps a second, transposed output; cuDNN does not
//   fused_cross_entropy           the loss works in place on the logits
//   gradient_accumulation_fusion  products add into the gradient buffer; a stand-in gradient of each shape is kept
//   grouped_gemm                  experts in grouped products
//   tensor_overlap                user buffers of overlapped tensor-parallel transfers
//   deferred_embedding_gradients  the head's weight gradient waits for the pipeline to drain
//   attention_mask                the data loader makes a mask of sequences x sequence x sequence bytes
//   large_matrix_workspace        CUBLAS_WORKSPACE_CONFIG=:4096:8, 32 MiB a thread
// Words that change time alone stand in sim/framework/time_parameters.h.

#include <string>
#include <vector>

#include "sim/cluster/rank_shapes.h"

namespace mmoe {

struct KeptTensor {
  const char* name;
  double bytes = 0;
  bool recomputed = false;  // freed after forward and made again in the layer's backward pass
};

enum class LayerKind { kDense, kMoe };

// Of one input of a column-parallel product, gathered along the sequence, what is not the rank's own; 0 where nothing
// is gathered.
double gathered_input_bytes(const Job& job, const RankShapes& shapes);

// Rows that a rank's experts compute on when k experts are active: by the dispatch, and `rows_factor` times the
// balanced load where nothing is dropped.
double expert_rows(const Job& job, const Framework& framework, const RankShapes& shapes, double k, double rows_factor);

// In the order in which forward makes them. With full recomputation only the layer's input is kept.
std::vector<KeptTensor> layer_tensors(const Job& job, const Framework& framework, const RankShapes& shapes,
                                      LayerKind kind, double k, double rows_factor);

// Bytes of the same tensors: kept; made again; kept where nothing is recomputed.
struct LayerBytes {
  double kept = 0, again = 0, whole = 0;
};
LayerBytes layer_bytes(const Job& job, const Framework& framework, const RankShapes& shapes, LayerKind kind, double k,
                       double rows_factor);

}  // namespace mmoe
